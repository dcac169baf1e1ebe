// Canvases: slot grids, charts and the time line. Colours come from the style sheet, so light and dark are one code.

const NAMES = [
  "active", "takeover", "handoff", "readopted", "waiting", "ended", "free", "lost", "good", "bad", "warn", "line", "quiet",
  "text", "accent", "accent-soft", "surface",
];
let colours = null;

export function theme() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    colours.font = `11px ${style.getPropertyValue("--sans")}`;
  }
  return colours;
}

export function forgetTheme() {
  colours = null;
}

/** Make a canvas sharp at its size on the page; returns its context, cleared, in CSS pixels. */
export function sharp(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// -- slots --------------------------------------------------------------------------------------------------------

const SIZES = [14, 12, 10, 8, 7, 6, 5, 4, 3, 2];
const TALLEST = 132;

/** Return how cells lie in a width: as large as they can be without the grid growing too tall. */
export function layout(cells, width) {
  for (const size of SIZES) {
    const gap = size >= 10 ? 3 : size >= 6 ? 2 : 1;
    const step = size + gap;
    const columns = Math.max(1, Math.floor((width + gap) / step));
    const rows = Math.max(1, Math.ceil(cells / columns));
    if (rows * step - gap <= TALLEST || size === SIZES.at(-1)) {
      return {size, step, columns, rows, height: rows * step - gap};
    }
  }
  return null;
}

/** Draw a group's cells. `chosen` is the cell that the keyboard is at, or -1. */
export function drawSlots(canvas, group, width, chosen) {
  const cells = Math.max(group.slots, group.cells.length, 1);
  const plan = layout(cells, width);
  const context = sharp(canvas, width, plan.height);
  const paint = theme();
  const waiting = group.id === "";
  const batches = new Map();
  for (let cell = 0; cell < cells; cell += 1) {
    const session = group.cells[cell];
    if (!session && waiting) continue;
    const colour = session ? colourOf(session, group, waiting) : "free";
    if (!batches.has(colour)) batches.set(colour, []);
    batches.get(colour).push(cell);
  }
  for (const [colour, list] of batches) {
    context.beginPath();
    for (const cell of list) square(context, plan, cell, 0);
    context.fillStyle = paint[colour];
    context.fill();
  }
  if (chosen >= 0 && chosen < cells) {
    context.beginPath();
    square(context, plan, chosen, 1.5);
    context.strokeStyle = paint.text;
    context.lineWidth = 2;
    context.stroke();
  }
  return plan;
}

function colourOf(session, group, waiting) {
  if (waiting) return session.from ? "lost" : "waiting";
  if (group.goneAtMs) return "lost";
  return session.mark || "active";
}

function square(context, {size, step, columns}, cell, grow) {
  const x = (cell % columns) * step - grow;
  const y = Math.floor(cell / columns) * step - grow;
  const side = size + 2 * grow;
  if (size >= 6) context.roundRect(x, y, side, side, size >= 10 ? 3 : 2);
  else context.rect(x, y, side, side);
}

// -- charts -------------------------------------------------------------------------------------------------------

const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;

/** Even steps, from nothing to a round number. */
function even(most) {
  const top = nice(most);
  return {marks: [0, top / 2, top], part: (value) => value / top};
}

/** Steps of ten, from one on: what is quick and what is slow can be read in one picture. */
function tenfold(most) {
  const decades = Math.max(2, Math.ceil(Math.log10(most * 0.999)));
  const marks = Array.from({length: decades + 1}, (_, power) => 10 ** power);
  return {marks, part: (value) => Math.log10(Math.max(1, value)) / decades};
}

/** Where a chart's points lie: time to x, value to y. */
function frame(canvas, height, window_, {marks, part}, unit) {
  const width = canvas.clientWidth || 300;
  const context = sharp(canvas, width, height);
  const paint = theme();
  const x = (atMs) => LEFT + ((atMs - window_.fromMs) / (window_.toMs - window_.fromMs)) * (width - LEFT - 4);
  const y = (value) => height - BOTTOM - part(value) * (height - BOTTOM - TOP);
  context.font = paint.font;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const mark of marks) {
    const at = Math.round(y(mark)) + 0.5;
    context.strokeStyle = paint.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(LEFT, at);
    context.lineTo(width - 4, at);
    context.stroke();
    context.fillStyle = paint.quiet;
    context.fillText(unit(mark), LEFT - 8, at);
  }
  ticks(context, window_, x, height - 7, width);
  return {context, x, y, paint, width, height};
}

/** Write the minutes below a chart. */
function ticks(context, window_, x, at, width) {
  const minutes = (window_.toMs - window_.fromMs) / 60_000;
  const step = minutes > 6 ? 5 : 1;
  context.fillStyle = theme().quiet;
  context.textBaseline = "middle";
  for (let minute = 0; minute < minutes; minute += step) {
    const there = x(window_.toMs - minute * 60_000);
    context.textAlign = minute === 0 ? "right" : "center";
    context.fillText(minute === 0 ? "now" : `−${minute} min`, minute === 0 ? width - 4 : there, at);
  }
}

/** Return a round number that is not below the value. */
function nice(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((round) => round >= value * 0.999);
}

const milliseconds = (value) => (value >= 1000 ? `${+(value / 1000).toFixed(1)} s` : `${+value.toFixed(1)} ms`);
const plain = (value) => `${+value.toFixed(2)}`;

/** Draw p50 as a line and the range up to p95 as an area; a gap where nothing was measured. */
export function drawLatency(canvas, height, window_, points) {
  const shown = points.filter((point) => point.atMs >= window_.fromMs);
  const known = shown.filter((point) => point.p95Ms !== null);
  const {context, x, y, paint} = frame(
    canvas, height, window_, tenfold(Math.max(100, ...known.map((point) => point.p95Ms))), milliseconds,
  );
  for (const run of runs(shown)) {
    context.beginPath();
    run.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point.atMs), y(point.p95Ms)));
    [...run].reverse().forEach((point) => context.lineTo(x(point.atMs), y(point.p50Ms)));
    context.fillStyle = paint["accent-soft"];
    context.fill();
    context.beginPath();
    run.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point.atMs), y(point.p50Ms)));
    context.strokeStyle = paint.accent;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke();
    if (run.length === 1) dot(context, x(run[0].atMs), y(run[0].p50Ms), 2, paint.accent);
  }
}

function runs(points, what = "p50Ms") {
  const found = [[]];
  for (const point of points) {
    if (point[what] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((run) => run.length);
}

/** Draw each move as a dot at the time that it took. */
export function drawMoves(canvas, height, window_, moves) {
  const shown = moves.filter((move) => move.atMs >= window_.fromMs);
  const {context, x, y, paint} = frame(
    canvas, height, window_, tenfold(Math.max(1000, ...shown.map((move) => move.tookMs))), milliseconds,
  );
  context.globalAlpha = shown.length > 400 ? 0.35 : 0.7;
  for (const move of shown) dot(context, x(move.atMs), y(move.tookMs), 2.5, paint[move.kind]);
  context.globalAlpha = 1;
}

function dot(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

/** Draw a gauge as a line over an area; a gap where it could not be read. */
export function drawReadings(canvas, height, window_, points) {
  const shown = points.filter((point) => point.atMs >= window_.fromMs);
  const {context, x, y, paint} = frame(
    canvas, height, window_, even(Math.max(1, ...shown.map((point) => point.value ?? 0))), plain,
  );
  for (const run of runs(shown, "value")) {
    const line = () => run.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point.atMs), y(point.value)));
    context.beginPath();
    line();
    context.lineTo(x(run.at(-1).atMs), y(0));
    context.lineTo(x(run[0].atMs), y(0));
    context.fillStyle = paint["accent-soft"];
    context.fill();
    context.beginPath();
    line();
    context.strokeStyle = paint.accent;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke();
    if (run.length === 1) dot(context, x(run[0].atMs), y(run[0].value), 2, paint.accent);
  }
}

/** Draw what happened each second, piled up: `[kind, colour]` from the bottom. */
export function drawRates(canvas, height, window_, counts, kinds) {
  const binS = window_.toMs - window_.fromMs > 400_000 ? 10 : 4;
  const from = Math.floor(window_.fromMs / 1000 / binS) * binS + binS;
  const to = Math.floor(window_.toMs / 1000);
  const bins = [];
  for (let second = from; second < to; second += binS) {
    const end = Math.min(second + binS, to);
    bins.push([second, kinds.map(([kind]) => counts.sum(kind, second, end) / (end - second))]);
  }
  const most = Math.max(1, ...bins.map(([, parts]) => parts.reduce((a, b) => a + b, 0)));
  const {context, x, y, paint} = frame(canvas, height, window_, even(most), plain);
  const wide = Math.max(1, x((from + binS) * 1000) - x(from * 1000) - 1);
  for (const [second, parts] of bins) {
    let below = 0;
    parts.forEach((part, index) => {
      if (!part) return;
      context.fillStyle = paint[kinds[index][1]];
      context.fillRect(x(second * 1000), y(below + part), wide, y(below) - y(below + part));
      below += part;
    });
  }
}

// -- the time line ------------------------------------------------------------------------------------------------

export const LANE = 20;
export const BIN_S = 2;

/** Draw a lane for each `{kinds: [[kind, colour]]}`; the more within two seconds, the taller. */
export function drawLanes(canvas, window_, counts, lanes) {
  const width = canvas.clientWidth || 600;
  const height = lanes.length * LANE + BOTTOM + 4;
  const context = sharp(canvas, width, height);
  const paint = theme();
  const x = (atMs) => ((atMs - window_.fromMs) / (window_.toMs - window_.fromMs)) * (width - 4);
  context.font = paint.font;
  const from = Math.floor(window_.fromMs / 1000 / BIN_S) * BIN_S;
  const to = window_.toMs / 1000;
  const wide = Math.max(2.5, x((from + BIN_S) * 1000) - x(from * 1000) - 1);
  context.strokeStyle = paint.line;
  context.lineWidth = 1;
  for (let lane = 0; lane < lanes.length; lane += 1) {
    const base = (lane + 1) * LANE - 2;
    context.beginPath();
    context.moveTo(0, base + 0.5);
    context.lineTo(width - 4, base + 0.5);
    context.stroke();
    for (let second = from; second < to; second += BIN_S) {
      let below = 0;
      for (const [kind, colour] of lanes[lane].kinds) {
        const total = counts.sum(kind, second, second + BIN_S);
        if (!total) continue;
        const tall = Math.min(LANE - 5 - below, 4 + 2.4 * Math.log2(total + 1));
        context.fillStyle = paint[colour];
        context.beginPath();
        context.roundRect(x(second * 1000), base - below - tall, wide, tall, 1.5);
        context.fill();
        below += tall + 1;
      }
    }
  }
  ticks(context, window_, x, height - 7, width);
}
