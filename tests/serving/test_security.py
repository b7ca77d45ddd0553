"""Who may ask: hosts, origins and keys; and what is never shown."""

from collections.abc import Iterator

import pytest

from megalith.inference import LanguageModel
from tests.serving.servers import MODEL, Server, serving

KEY = "a-key-of-ours"
BODY = {"model": MODEL, "prompt": "The", "max_tokens": 1}


@pytest.fixture(scope="module")
def server(lm: LanguageModel) -> Iterator[Server]:
    with serving(lm, allowed_hosts=("models.example",)) as made:
        yield made


@pytest.fixture(scope="module")
def locked(lm: LanguageModel) -> Iterator[Server]:
    with serving(lm, api_key=KEY) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:80", 200),
        ("192.168.1.5:8000", 200),
        ("[::1]:8000", 200),
        ("models.example", 200),
        ("models.example:443", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:127.0.0.1", 403),
        ("[::1", 403),
        ("", 403),
        ("user@localhost@evil.example", 403),
    ],
)
def test_a_request_under_another_name_is_refused(server: Server, host: str, status: int) -> None:
    answer = server.ask("POST", "/v1/completions", BODY, {"Host": host})
    assert answer.status == status
    if status == 403:
        assert server.refused(403, answer)["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("https://models.example", 200),
        ("http://localhost:9000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://localhost:8000.evil.example", 403),
    ],
)
def test_a_page_of_another_site_is_refused(server: Server, origin: str, status: int) -> None:
    answer = server.ask("POST", "/v1/completions", BODY, {"Host": "localhost:8000", "Origin": origin})
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers
    assert server.ask("GET", "/", None, {"Host": "localhost:8000", "Origin": origin}).status == status


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", "Bearer clé", KEY])
def test_without_the_key_nothing_is_answered(locked: Server, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1").decode("latin-1")}
    for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/metrics")):
        answer = locked.ask(method, path, BODY if method == "POST" else None, headers)
        error = locked.refused(401, answer)
        assert error["code"] == "invalid_api_key" and KEY not in error["message"]
        assert answer.headers["www-authenticate"] == "Bearer"


def test_with_the_key_all_is_answered_and_without_it_the_page_and_health(locked: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert locked.ask("POST", "/v1/completions", BODY, headers).status == 200
    assert locked.ask("GET", "/metrics", None, headers).status == 200
    for path in ("/", "/page.js", "/page.css", "/health"):
        assert locked.ask("GET", path).status == 200


def test_prompts_and_keys_are_not_logged(lm: LanguageModel, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(lm, api_key=KEY) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        server.ask("POST", "/v1/completions", BODY | {"prompt": "a secret prompt"}, headers)
        server.ask("POST", "/v1/completions", BODY | {"a secret field": 1}, headers)
        server.ask("POST", "/v1/completions", BODY, {"Authorization": "Bearer a secret guess"})
        server.engine.failing = RuntimeError("broken")
        server.ask("POST", "/v1/completions", BODY | {"prompt": "a secret prompt"}, headers)
        shown = server.ask("GET", "/metrics", None, headers).body.decode()
    said = "".join(capfd.readouterr())
    assert "RuntimeError: broken" in said
    assert "secret" not in said + shown and KEY not in said + shown


def test_every_answer_keeps_browsers_within_bounds(server: Server) -> None:
    for path in ("/", "/health", "/nowhere", "/v1/models"):
        headers = server.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and "server" not in headers


def test_the_metrics_tell_latencies_the_queue_and_the_cache(server: Server) -> None:
    server.complete("The", max_tokens=5, temperature=0)
    text = server.ask("GET", "/metrics").body.decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures["megalith_time_to_first_token_seconds_count"]) >= 1
    assert float(figures["megalith_time_between_tokens_seconds_count"]) >= 1
    assert float(figures["megalith_generated_tokens_total"]) >= 2
    assert float(figures["megalith_kv_bytes_limit"]) == server.engine.kv_bytes_limit
    assert float(figures["megalith_sequences_waiting"]) == float(figures["megalith_kv_bytes_used"]) == 0
    assert float(figures['megalith_requests_total{route="/v1/completions",status="200"}']) >= 1
