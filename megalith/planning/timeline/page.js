"use strict";
// Draws the steps onto the canvas, again after each zoom or move; one view of time for all of them.
const KINDS = JSON.parse(document.getElementById("kinds").textContent);
const STEPS = JSON.parse(document.getElementById("steps").textContent);
const canvas = document.querySelector("canvas");
const tip = document.querySelector(".tip");
const LEFT = 76, RIGHT = 30, HEADING = 34, AXIS = 34, MEMORY = 110, GAP = 30, LINE = 18;
const WHOLE = Math.max(...STEPS.map((step) => step.step)) || 1;
const css = getComputedStyle(document.documentElement);
const colour = (role) => css.getPropertyValue("--" + role).trim();
const MOST = Math.max(1e-9, ...STEPS.flatMap((step) => step.memory.map((points) => points.reduce((most, point) => Math.max(most, point[1]), 0))));
let from = 0, to = WHOLE, pointed = null, queued = false;

for (const step of STEPS) {
  const ranks = step.work.length;
  step.row = ranks <= 8 ? 26 : ranks <= 16 ? 20 : Math.max(6, Math.min(17, 640 / ranks));
  step.shortest = Math.min(...step.work.map((blocks) => blocks.reduce((least, block) => (block[2] ? Math.min(least, block[2]) : least), Infinity)));
}

function place(pen) {
  let top = 0;
  for (const step of STEPS) {
    step.lines = headlines(pen, step);
    step.above = top;
    step.top = top + HEADING + LINE * (step.lines.length - 1);
    step.foot = step.top + step.row * step.work.length;
    step.bottom = step.foot + AXIS + MEMORY;
    top = step.bottom + GAP;
  }
  return top;
}

const plot = () => canvas.clientWidth - LEFT - RIGHT;
const x = (time) => LEFT + ((time - from) / (to - from)) * plot();
const timeAt = (pixel) => from + ((pixel - LEFT) / plot()) * (to - from);

// The first of `rows` that ends after `time`; [kind, start, duration, …], one after another.
function firstAfter(rows, time) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][1] + rows[middle][2] > time) high = middle; else low = middle + 1;
  }
  return low;
}

function draw() {
  queued = false;
  const pen = canvas.getContext("2d"), height = place(pen), dots = window.devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = Math.round(canvas.clientWidth * dots);
  canvas.height = Math.round(height * dots);
  pen.scale(dots, dots);
  for (const step of STEPS) {
    heading(pen, step);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, step.top - 1, plot(), step.bottom - step.top + 4);
    pen.clip();
    rows(pen, step);
    memory(pen, step);
    pen.restore();
    axes(pen, step);
  }
}

const BOLD = "600 15px system-ui, sans-serif", PLAIN = "13px system-ui, sans-serif";

// The headline beside the schedule's name where there is room, else below it; broken between its parts and words.
function headlines(pen, step) {
  pen.font = BOLD;
  const beside = pen.measureText(step.schedule).width + 16;
  pen.font = PLAIN;
  if (beside + pen.measureText(step.headline).width <= canvas.clientWidth) return [[beside, step.headline]];
  const lines = [[0, ""]];
  for (const word of step.headline.split(" ")) {
    const last = lines[lines.length - 1], longer = last[1] ? last[1] + " " + word : word;
    if (last[1] && pen.measureText(longer).width > canvas.clientWidth) lines.push([0, word]); else last[1] = longer;
  }
  return [[beside, ""], ...lines];
}

function heading(pen, step) {
  pen.textAlign = "left";
  pen.fillStyle = colour("ink");
  pen.font = BOLD;
  pen.fillText(step.schedule, 0, step.above + HEADING - 12);
  pen.font = PLAIN;
  step.lines.forEach(([left, words], line) => pen.fillText(words, left, step.above + HEADING - 12 + LINE * line));
}

function rows(pen, step) {
  const gap = step.row >= 10 ? 2 : 0, strip = step.row >= 8 ? Math.max(2, 0.16 * step.row) : 0;
  const tall = step.row - gap - strip;
  pen.font = "10.5px system-ui, sans-serif";
  pen.textAlign = "center";
  step.work.forEach((blocks, rank) => {
    const y = step.top + rank * step.row;
    pen.fillStyle = colour("bubble");
    pen.fillRect(x(0), y, x(step.step) - x(0), step.row - gap);
    for (let n = firstAfter(blocks, from); n < blocks.length && blocks[n][1] < to; n++) {
      const [kind, start, duration, , number, opaque] = blocks[n];
      const left = x(start), right = x(start + duration), wide = right - left;
      pen.globalAlpha = opaque === undefined ? 1 : opaque;
      pen.fillStyle = colours[kind];
      pen.fillRect(left, y, wide - (wide > 5 ? 0.8 : 0), tall);
      pen.globalAlpha = 1;
      const words = number === undefined ? KINDS[kind].name : String(number);
      const seen = Math.min(right, LEFT + plot()) - Math.max(left, LEFT);
      if (tall >= 10 && seen > 6.4 * words.length + 3) {
        pen.fillStyle = KINDS[kind].deep || number === undefined ? "#fff" : "#1c2126";
        pen.fillText(words, (Math.max(left, LEFT) + Math.min(right, LEFT + plot())) / 2, y + tall / 2 + 3.8);
      }
    }
    const sends = step.sends[rank];
    pen.fillStyle = colour("send");
    for (let n = firstAfter(sends, from); strip && n < sends.length && sends[n][1] < to; n++) {
      const wide = (sends[n][2] / (to - from)) * plot();
      if (wide >= 0.25) pen.fillRect(x(sends[n][1]), y + tall, wide, strip);
    }
  });
}

function memory(pen, step) {
  const high = (amount) => step.bottom - (amount / MOST) * (MEMORY - 14);
  const lit = pointed && pointed.step === step ? pointed.rank : fullest(step);
  const wide = (step.shortest / (to - from)) * plot() >= 6 ? 1 : 12;
  const order = step.memory.map((_, rank) => rank).filter((rank) => rank !== lit);
  for (const rank of [...order, lit]) {
    pen.strokeStyle = colour(rank === lit ? "ink" : "muted");
    pen.lineWidth = rank === lit ? 1.6 : 0.8;
    pen.globalAlpha = rank === lit ? 1 : 0.5;
    pen.beginPath();
    // A line of steps through the most within each few pixels: of narrow actions, not each is drawn.
    let level = null, column = null, most = 0, now = 0;
    const put = (left, amount) => {
      if (amount === level) return;
      if (level === null) pen.moveTo(left, high(amount)); else { pen.lineTo(left, high(level)); pen.lineTo(left, high(amount)); }
      level = amount;
    };
    for (const [time, amount] of step.memory[rank]) {
      const reached = wide * Math.floor((x(Math.min(Math.max(time, from), to)) - LEFT) / wide) + LEFT;
      if (column !== null && reached !== column) {
        put(column, most);
        if (reached > column + wide) put(column + wide, now);
        most = now;
      }
      column = reached;
      most = Math.max(most, amount);
      now = amount;
    }
    put(column, most);
    pen.lineTo(x(Math.min(step.step, to)), high(level));
    pen.stroke();
    pen.globalAlpha = 1;
  }
}

const fullest = (step) => {
  const peaks = step.memory.map((points) => points.reduce((most, point) => Math.max(most, point[1]), 0));
  return peaks.indexOf(Math.max(...peaks));
};

function axes(pen, step) {
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colour("muted");
  pen.textAlign = "right";
  const every = Math.max(1, Math.ceil(13 / step.row));
  for (let rank = 0; rank < step.work.length; rank += every)
    pen.fillText("rank " + rank, LEFT - 8, step.top + rank * step.row + step.row / 2 + 3);
  pen.strokeStyle = colour("muted");
  pen.lineWidth = 1;
  pen.textAlign = "center";
  const [unit, word] = unitOf(step, to - from);
  const rough = (to - from) / unit / Math.max(1, plot() / 110), power = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough) * unit;
  pen.beginPath();
  pen.moveTo(LEFT, step.foot + 3.5);
  pen.lineTo(LEFT + plot(), step.foot + 3.5);
  const digits = Math.max(0, -Math.floor(Math.log10(apart / unit) + 1e-9));
  for (let tick = Math.ceil(from / apart); tick * apart <= to; tick++) {
    const at = x(tick * apart);
    pen.moveTo(at, step.foot + 3.5);
    pen.lineTo(at, step.foot + 8);
    pen.fillText(((tick * apart) / unit).toFixed(digits) + " " + word, at, step.foot + 20);
  }
  pen.stroke();
  pen.textAlign = "right";
  pen.fillText("0", LEFT - 8, step.bottom + 3);
  pen.fillText(amountOf(step, MOST), LEFT - 8, step.bottom - MEMORY + 18);
  pen.strokeStyle = colour("rule");
  pen.strokeRect(LEFT + 0.5, step.bottom - MEMORY + 13.5, plot() - 1, MEMORY - 14);
  const lit = pointed && pointed.step === step ? pointed.rank : fullest(step);
  pen.textAlign = "left";
  const legend = (step.bytes ? "memory of each rank" : "micro-batches whose activations each rank holds") + "; thick line: rank " + lit;
  const room = canvas.clientWidth - LEFT;
  pen.fillText(legend, Math.max(0, LEFT - Math.max(0, pen.measureText(legend).width - room)), step.foot + AXIS + 6);
}

function unitOf(step, span) {
  if (step.clock === "forwards") return [step.scale, "fwd"];
  return span >= 2e6 ? [1e6, "s"] : span >= 2e3 ? [1e3, "ms"] : [1, "µs"];
}

function timeOf(step, time) {
  if (step.clock === "forwards") return (time / step.scale).toPrecision(4) + " forwards";
  if (time === 0) return "0";
  const [unit, word] = Math.abs(time) >= 1e6 ? [1e6, "s"] : Math.abs(time) >= 1e3 ? [1e3, "ms"] : [1, "µs"];
  return (time / unit).toPrecision(4) + " " + word;
}

function amountOf(step, amount) {
  if (!step.bytes) return String(Math.round(amount * 100) / 100);
  const [unit, word] = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1, "B"]].find(([size]) => amount >= size) || [1, "B"];
  return (amount / unit).toPrecision(3) + " " + word;
}

const later = () => { if (!queued) { queued = true; requestAnimationFrame(draw); } };

function view(start, end) {
  const span = Math.min(WHOLE, Math.max(end - start, WHOLE / 1e5));
  from = Math.min(Math.max(0, start), WHOLE - span);
  to = from + span;
  later();
}

const zoom = (factor, at) => view(at - (at - from) / factor, at + (to - at) / factor);
const move = (share) => view(from + share * (to - from), to + share * (to - from));

canvas.addEventListener("wheel", (event) => {
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(Math.sign(event.deltaX || event.deltaY) * 0.1);
  else zoom(Math.exp(-event.deltaY * 0.002), timeAt(event.offsetX));
  event.preventDefault();
}, { passive: false });

let held = null;
canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, from, to }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointerup", () => { held = null; });
canvas.addEventListener("pointercancel", () => { held = null; });
canvas.addEventListener("pointermove", (event) => {
  if (held) {
    const moved = ((event.clientX - held.x) / plot()) * (held.to - held.from);
    view(held.from - moved, held.to - moved);
  }
  say(event.offsetX, event.offsetY);
});
canvas.addEventListener("pointerleave", () => { tip.hidden = true; pointed = null; later(); });
canvas.addEventListener("dblclick", () => view(0, WHOLE));
window.addEventListener("keydown", (event) => {
  const middle = (from + to) / 2;
  const known = { "+": () => zoom(1.5, middle), "=": () => zoom(1.5, middle), "-": () => zoom(1 / 1.5, middle), "0": () => view(0, WHOLE), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2) };
  if (known[event.key] && !event.ctrlKey && !event.metaKey) { known[event.key](); event.preventDefault(); }
});
for (const button of document.querySelectorAll("button"))
  button.addEventListener("click", () => (Number(button.dataset.zoom) ? zoom(Number(button.dataset.zoom), (from + to) / 2) : view(0, WHOLE)));
window.addEventListener("resize", later);

function say(left, top) {
  const step = STEPS.find((each) => top >= each.top && top < each.bottom);
  const time = timeAt(left);
  tip.hidden = true;
  if (!step || left < LEFT || time > step.step) { if (pointed) { pointed = null; later(); } return; }
  const rank = top < step.foot ? Math.floor((top - step.top) / step.row) : pointed && pointed.step === step ? pointed.rank : fullest(step);
  if (!pointed || pointed.step !== step || pointed.rank !== rank) { pointed = { step, rank }; later(); }
  tip.textContent = told(step, rank, time, top - step.top - rank * step.row);
  tip.hidden = false;
  tip.style.left = Math.max(0, Math.min(left + 14, canvas.clientWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = top + 18 + "px";
}

function told(step, rank, time, down) {
  const covering = (blocks) => { const block = blocks[firstAfter(blocks, time)]; return block && block[1] <= time ? block : null; };
  const strip = step.row >= 8 && down > 0.7 * step.row && down < step.row;
  const block = (strip && covering(step.sends[rank])) || (down < step.row ? covering(step.work[rank]) : null);
  let held = 0;
  for (const [at, amount] of step.memory[rank]) { if (at > time) break; held = amount; }
  const holds = "rank " + rank + " holds " + (step.bytes ? amountOf(step, held) : amountOf(step, held) + (held === 1 ? " micro-batch" : " micro-batches"));
  if (down >= step.row) return "at " + timeOf(step, time) + "\n" + holds;
  const bubble = "\nidle for " + (100 * step.bubbles[rank]).toFixed(1) + " % of the step";
  if (!block) return "bubble at " + timeOf(step, time) + bubble + "\n" + holds;
  const [kind, start, duration, stage, number] = block;
  const what = KINDS[kind].name + (stage === undefined ? "" : ": stage " + stage + ", micro-batch " + number);
  return what + "\n" + timeOf(step, start) + " to " + timeOf(step, start + duration) + " (" + timeOf(step, duration) + ")\n" + holds;
}

let colours = KINDS.map((kind) => colour(kind.css));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = KINDS.map((kind) => colour(kind.css)); later(); });
draw();
