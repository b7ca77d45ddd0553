"""The page in a real browser: tokens, probabilities, alternatives and the keyboard."""

import asyncio
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from megalith.inference import LanguageModel
from tests.serving.servers import MODEL, Server, eventually, serving

from starlette.responses import Response  # isort: skip # after the check that it is there
from starlette.routing import Route  # isort: skip

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = """
const wait = (ready) => new Promise((done) => {
  const look = () => (ready() ? done() : setTimeout(look, 10));
  look();
});
const press = (target, key, more) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
const finished = () => wait(() => running === null && tokens.length > 0);
const shown = () => $("text").textContent;
window.addEventListener("DOMContentLoaded", async () => {
  try {
    await wait(() => model !== null || $("status").className === "bad");
    document.title = JSON.stringify(await probe());
  } catch (error) {
    document.title = JSON.stringify({ failed: String(error) });
  }
  fetch("probe-done");
});
"""
PROBE = """async function probe() {
  const seen = { model: $("model").textContent };
  if (WIDTH < innerWidth) Object.assign(document.body.style, { width: "WIDTHpx", margin: 0 }); // no window is so narrow
  $("prompt").value = "Naïve 石";
  $("max_tokens").value = 6; $("seed").value = 3; $("echo").checked = true;
  press($("prompt"), "Enter", { ctrlKey: true });
  await finished();
  seen.text = shown(); seen.status = $("status").textContent; seen.bad = $("status").className;
  seen.tokens = tokens.map((token) => [token.name, token.logprob, token.element.textContent, token.element.className]);
  tokens[4].element.dispatchEvent(new PointerEvent("pointerenter"));
  seen.tip = $("tip").hidden ? null : $("tip").textContent;
  tokens[4].element.click();
  const rows = [...document.querySelectorAll("#alternatives li")];
  seen.alternatives = rows.map((row) => [row.textContent, row.className, row.firstChild.disabled]);
  seen.focused = document.activeElement === tokens[4].element;
  press(tokens[4].element, "ArrowRight"); seen.right = current;
  press(tokens[5].element, "Home"); seen.home = current;
  press(tokens[0].element, "End"); seen.end = current;
  press(document.activeElement, "Enter"); seen.opened = $("alternatives").querySelector("h2").textContent;
  press(document.activeElement, "Escape"); seen.closed = $("alternatives").hidden;
  tokens[4].element.click();
  const choices = [...document.querySelectorAll("#alternatives button")];
  const other = choices.find((row) => !row.disabled && row.parentElement.className === "");
  seen.other = other.querySelector("code").textContent;
  const before = letters.slice(0, tokens[4].offset).join("");
  other.click();
  await finished();
  seen.continued = [before, $("prompt").value];
  const edge = Math.min(WIDTH, document.documentElement.clientWidth) + 0.5;
  seen.cut = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > edge);
  seen.cut = seen.cut.map((one) => one.outerHTML.slice(0, 80));
  return seen;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_text_is_shown_with_what_each_token_might_have_been(lm: LanguageModel, tmp_path: Path, width: int) -> None:
    with serving(lm) as server:
        seen = browse(server, PROBE.replace("WIDTH", str(width)), tmp_path, width)
        fields = {"echo": True, "logprobs": 10, "max_tokens": 6, "seed": 3, "temperature": 0.8, "top_p": 0.95}
        (choice,) = server.complete("Naïve 石", **fields).json["choices"]
    assert seen["model"] == f"{MODEL}, 32 tokens of context"
    assert seen["text"].replace("·", "") == choice["text"].replace("·", "") and seen["bad"] == ""
    assert re.fullmatch(r"\d tokens, the first after \d+ ms, [\d.e+]+ tokens/s: .*", seen["status"])
    assert [name for name, *_ in seen["tokens"]] == choice["logprobs"]["tokens"]
    assert [number for _, number, *_ in seen["tokens"]] == choice["logprobs"]["token_logprobs"]
    assert seen["tokens"][0][3] == "heat0 prompt" and {row[3][:5] for row in seen["tokens"]} != {"heat0"}
    assert re.fullmatch(r".*: [\d.e-]+ %", seen["tip"]) and seen["focused"]
    assert len(seen["alternatives"]) in (10, 11) and [row[1] for row in seen["alternatives"]].count("drawn") == 1
    assert all(off == row.startswith("bytes:") for row, _, off in seen["alternatives"])
    assert (seen["right"], seen["home"], seen["end"]) == (5, 0, len(seen["tokens"]) - 1)
    assert seen["opened"].startswith("Instead of ") and seen["closed"]
    before, prompt = seen["continued"]
    assert prompt.startswith(before) and len(prompt) > len(before)
    assert seen["cut"] == []


@pytest.mark.browser
def test_an_error_is_told_in_the_servers_words_and_a_key_is_asked_for(lm: LanguageModel, tmp_path: Path) -> None:
    probe = """async function probe() {
      const seen = { asked: !$("locked").hidden, first: $("status").textContent };
      $("key").value = "a-key"; $("key").dispatchEvent(new Event("change"));
      await wait(() => model !== null);
      $("prompt").value = "The "; $("max_tokens").value = 500;
      $("go").click();
      await wait(() => running === null && $("status").className === "bad");
      const stored = Object.keys(localStorage).length + document.cookie.length;
      return { ...seen, told: $("status").textContent, stored };
    }"""
    with serving(lm, api_key="a-key") as server:
        seen = browse(server, probe, tmp_path, 1280)
    assert seen["asked"] and "API key is missing" in seen["first"]
    assert "context holds 32 tokens" in seen["told"] and seen["stored"] == 0


@pytest.mark.browser
def test_stop_ends_the_text_and_frees_the_engine(lm: LanguageModel, tmp_path: Path) -> None:
    probe = """async function probe() {
      $("prompt").value = "The "; $("max_tokens").value = 28; $("temperature").value = 1.9; $("go").click();
      await wait(() => tokens.length > 1);
      press(document.body, "Escape");
      await finished();
      return { drawn: tokens.length, status: $("status").textContent, go: $("go").disabled };
    }"""
    with serving(lm) as server:
        server.engine.pause = 0.3
        seen = browse(server, probe, tmp_path, 1280)
        eventually(lambda: server.engine.cancelled == 1)
    assert seen["drawn"] < 25 and seen["status"].endswith(": stopped") and not seen["go"]


def test_the_page_fetches_nothing_from_elsewhere_and_holds_no_script_of_its_own(lm: LanguageModel) -> None:
    with serving(lm) as server:
        page, script, style = (server.ask("GET", path) for path in ("/", "/page.js", "/page.css"))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    for part in (page, script, style):
        assert not re.findall(r"""https?://|@import|url\(""", part.body.decode())
    assert not re.findall(r"<script(?! src=)|<style| on\w+=| style=", page.body.decode())


def browse(server: Server, probe: str, folder: Path, width: int, *more: str) -> Any:
    """The result of a script that drives the page; nothing may be said on the console but refusals by the API."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    plain = server.ask("GET", "/")
    page = plain.body.decode().replace(
        "</body>", '<script src="probe.js"></script><script async src="probe-hold.js"></script></body>'
    )
    policy = {"Content-Security-Policy": plain.headers["content-security-policy"]}

    done = asyncio.Event()

    async def probed(request: Any) -> Response:
        if request.url.path == "/probed":
            return Response(page, media_type="text/html", headers=policy)
        if request.url.path == "/probe-done":
            done.set()
        if request.url.path == "/probe-hold.js":  # the browser waits for it before it tells what the page has become
            await done.wait()
        script = DRIVER + probe if request.url.path == "/probe.js" else ""
        return Response(script, media_type="text/javascript")

    routes = [Route(path, probed) for path in ("/probed", "/probe.js", "/probe-hold.js", "/probe-done")]
    server.service.app.router.routes[:0] = routes
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--timeout=30000"]
    options += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *more]
    address = f"http://127.0.0.1:{server.port}/probed"
    shown = subprocess.run(
        [browser, *options, "--dump-dom", address],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    said = [line for line in shown.stderr.splitlines() if "CONSOLE" in line and "the server responded with" not in line]
    assert said == []
    title = re.search(r"<title>(.*?)</title>", shown.stdout, re.DOTALL)
    assert title is not None
    return json.loads(html.unescape(title[1]))
