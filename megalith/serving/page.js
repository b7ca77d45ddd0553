"use strict";
// Streams a completion with log-probabilities, shows its tokens, and says what else each might have been.
const $ = (id) => document.getElementById(id);
const ALTERNATIVES = 10;
let running = null, model = null, tokens = [], letters = [], promptTokens = 0, current = 0;

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return (share >= 10 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : share.toPrecision(1)) + " %";
};
const heat = (logprob) => (logprob === null ? 0 : [0.5, 0.1, 0.01, 0.001].filter((share) => Math.exp(logprob) < share).length);
const visible = (name) => name.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣").replace(/[\u0000-\u001f\u007f-\u009f]/g, "�");

function say(words, bad) {
  $("status").textContent = words;
  $("status").className = bad ? "bad" : "";
}

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: "Bearer " + key } : {}) };
}

// The answer, or an error in the server's own words; the field for the key appears where one is needed.
async function ask(path, options) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (answer.ok) return answer;
  if (answer.status === 401) $("locked").hidden = false;
  const told = await answer.json().catch(() => null);
  throw new Error(told && told.error ? told.error.message : "The server answers with status " + answer.status + ".");
}

async function findModel() {
  const listed = await (await ask("v1/models")).json();
  const { id, max_model_len: context } = listed.data[0];
  model = id;
  $("model").textContent = id + ", " + context + " tokens of context";
  document.title = id + " – Megalith";
}

function wanted() {
  const body = { model, prompt: $("prompt").value, stream: true, logprobs: ALTERNATIVES, echo: $("echo").checked };
  for (const name of ["max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"])
    if ($(name).value !== "") body[name] = Number($(name).value);
  return body;
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part !== "data: [DONE]") yield JSON.parse(part.slice(6));
  }
}

async function generate() {
  if (running || !$("form").reportValidity()) return;
  running = new AbortController();
  $("go").disabled = true;
  $("stop").disabled = false;
  close();
  tokens = [];
  letters = [];
  current = 0;
  $("text").replaceChildren();
  say("…");
  const start = performance.now();
  let first = null, finish = "stopped";
  try {
    if (model === null) await findModel();
    const body = wanted();
    promptTokens = body.echo ? Array.from(body.prompt).length : 0;
    for await (const event of events(await ask("v1/completions", { method: "POST", body: JSON.stringify(body), signal: running.signal }))) {
      if (event.error) throw new Error(event.error.message);
      first = first === null ? performance.now() : first;
      const [choice] = event.choices;
      add(choice);
      if (choice.finish_reason) finish = choice.finish_reason === "length" ? "all tokens drawn" : "the text has ended";
    }
    say(summary(finish, start, first));
  } catch (error) {
    if (error.name === "AbortError") say(summary("stopped", start, first));
    else say(error.message, true);
  } finally {
    running = null;
    $("go").disabled = false;
    $("stop").disabled = true;
  }
}

function summary(finish, start, first) {
  const drawn = tokens.filter((token) => !token.ofPrompt).length, seconds = (performance.now() - (first || start)) / 1000;
  const rate = drawn > 1 && seconds > 0 ? ", " + ((drawn - 1) / seconds).toPrecision(3) + " tokens/s" : "";
  return drawn + " tokens" + (first ? ", the first after " + Math.round(first - start) + " ms" : "") + rate + ": " + finish;
}

function add(choice) {
  const from = Math.max(0, tokens.length - 1), shown = choice.logprobs;
  letters.push(...choice.text);
  shown.tokens.forEach((name, at) => {
    const token = { name, logprob: shown.token_logprobs[at], top: shown.top_logprobs[at], offset: shown.text_offset[at] };
    token.ofPrompt = token.offset < promptTokens;
    token.element = element(token, tokens.length);
    tokens.push(token);
    $("text").append(token.element);
  });
  for (let at = from; at < tokens.length; at++) write(tokens[at], tokens[at + 1]);
}

// A token's text runs to where the next one begins; one within a character, or an end of text, has none.
function write(token, next) {
  const text = letters.slice(token.offset, next ? next.offset : letters.length).join("");
  token.element.textContent = text === "" ? "·" : text;
}

function element(token, at) {
  const made = document.createElement("span");
  made.className = "heat" + heat(token.logprob) + (token.ofPrompt ? " prompt" : "");
  made.tabIndex = at === 0 ? 0 : -1;
  made.setAttribute("role", "button");
  made.setAttribute("aria-expanded", "false");
  made.setAttribute("aria-label", told(token));
  made.addEventListener("pointerenter", () => tip(token));
  made.addEventListener("focus", () => tip(token));
  made.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  made.addEventListener("blur", () => { $("tip").hidden = true; });
  made.addEventListener("click", () => { move(at); open(at); });
  return made;
}

const told = (token) => visible(token.name) + ": " + (token.logprob === null ? "the first, without a probability" : percent(token.logprob));

function tip(token) {
  const place = token.element.getBoundingClientRect(), box = $("tip");
  box.textContent = told(token);
  box.hidden = false;
  box.style.left = "0"; // else it is as narrow as the room to its right was
  box.style.left = Math.max(4, Math.min(place.left, innerWidth - box.offsetWidth - 4)) + "px";
  box.style.top = (place.top > box.offsetHeight + 8 ? place.top - box.offsetHeight - 6 : place.bottom + 6) + "px";
}

function move(at) {
  if (!tokens[at]) return;
  if (tokens[current]) tokens[current].element.tabIndex = -1;
  current = at;
  tokens[at].element.tabIndex = 0;
  tokens[at].element.focus();
}

function close() {
  for (const token of tokens) token.element.setAttribute("aria-expanded", "false");
  $("alternatives").hidden = true;
  document.querySelector(".result").classList.remove("open");
}

function open(at) {
  const token = tokens[at], again = token.element.getAttribute("aria-expanded") === "true";
  close();
  if (again) return;
  token.element.setAttribute("aria-expanded", "true");
  const rows = Object.entries(token.top || {}).sort((one, other) => other[1] - one[1]);
  $("alternatives").querySelector("h2").textContent = rows.length ? "Instead of " + visible(token.name) : "The first token has no probability";
  $("alternatives").querySelector("ol").replaceChildren(...rows.map(([name, logprob]) => row(token, name, logprob)));
  $("alternatives").querySelector("p").hidden = !rows.length;
  $("alternatives").hidden = false;
  document.querySelector(".result").classList.add("open");
}

function row(token, name, logprob) {
  const item = document.createElement("li"), button = document.createElement("button");
  const word = document.createElement("code"), bar = document.createElement("meter"), share = document.createElement("span");
  item.className = name === token.name ? "drawn" : "";
  word.textContent = visible(name);
  bar.value = Math.exp(logprob);
  share.textContent = percent(logprob);
  button.type = "button";
  button.disabled = name.startsWith("bytes:"); // no whole character: no text to continue from
  button.append(word, bar, share);
  button.addEventListener("click", () => continueWith(token, name));
  item.append(button);
  return item;
}

function continueWith(token, name) {
  if (running) return;
  const before = letters.slice(0, token.offset).join("");
  $("prompt").value = (promptTokens ? "" : $("prompt").value) + before + name;
  generate();
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); generate(); });
$("stop").addEventListener("click", () => running && running.abort());
$("key").addEventListener("change", () => findModel().then(() => say("")).catch((error) => say(error.message, true)));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); generate(); }
  if (event.key === "Escape") { if (running) running.abort(); else { close(); if (tokens[current]) move(current); } }
});
for (const moved of ["scroll", "resize"]) addEventListener(moved, () => { $("tip").hidden = true; });
$("text").addEventListener("keydown", (event) => {
  const go = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: tokens.length - 1 }[event.key];
  if (go !== undefined && !event.ctrlKey) { event.preventDefault(); move(go); }
  if ((event.key === "Enter" || event.key === " ") && !event.ctrlKey && tokens[current]) { event.preventDefault(); open(current); }
});
findModel().catch((error) => say(error.message, true));
