// The console: reads what runs from the balancer, follows its events, and has everything painted.

import {Lines, paintLines} from "./activity.mjs";
import {Api, Problem} from "./api.mjs";
import {callView} from "./call.mjs";
import {$} from "./dom.mjs";
import {forgetTheme} from "./draw.mjs";
import {Feed} from "./feed.mjs";
import {Fleet} from "./fleet.mjs";
import {instanceView} from "./instance.mjs";
import {tick} from "./lease.mjs";
import {Minutes, paintNow} from "./minutes.mjs";
import {Model} from "./model.mjs";
import {later, work} from "./paint.mjs";
import {Panel} from "./panel.mjs";
import {Counts, Latency, Moves, Readings, skew} from "./past.mjs";
import {searchField} from "./search.mjs";
import {Health, Speaker, askToken, confirmed, notice} from "./talk.mjs";
import {userView} from "./user.mjs";

const LOOK_BACK_MS = 5 * 60_000;
const INSTANCES_EVERY_MS = 2000;
const METRICS_EVERY_MS = 5000;
const HIDDEN_EVERY_MS = 20_000;
const PAGE = 1000;
const ASTRAY_FOR = 8; // readings of the instances
const READ_AT_MOST_EVERY_MS = 60_000;
const MOVED = new Set(["takeover", "handoff"]);

const model = new Model();
const past = {
  counts: new Counts(), moves: new Moves(), latency: new Latency(), renewals: new Readings("mediaflow_fleet_renewals_per_second"),
};
const lines = new Lines();
const api = new Api(askToken);
const health = new Health();
const speaker = new Speaker();
const minutes = new Minutes(past);
let aheadMs = 0;
const now = () => Date.now() - aheadMs;

// -- painting -------------------------------------------------------------------------------------------------------

const on = {
  api, model, now,
  open: (kind, id) => panel.open(kind, id),
  describe: (callId) => api.json(`calls/${encodeURIComponent(callId)}`).catch(() => null),
  end, drain,
};
const fleet = new Fleet($("cards"), on);
const panel = new Panel({
  call: (id, body) => callView(id, body, on),
  instance: (id, body) => instanceView(id, body, on),
  user: (id, body) => userView(id, body, on),
});

function paint() {
  fleet.paint(model);
  paintNow(model);
  speaker.hear(lines.list);
  paintLines($("activity"), lines);
  $("calm").hidden = lines.list.length > 0;
}

function paintMinutes() {
  minutes.paint(now());
}

function paintAnew() {
  forgetTheme();
  fleet.repaint();
  paintMinutes();
}

// -- what is read ---------------------------------------------------------------------------------------------------

function take(events) {
  work.events += events.length;
  work.batches += 1;
  const nowMs = now();
  for (const event of events) {
    const change = model.apply(event, nowMs);
    record(change, Date.parse(event.at));
    lines.add(change, nowMs);
    if (event.callId && panel.key === `call/${event.callId}`) panel.touch("call", event.callId);
    if (!event.callId) instancesSoon();
  }
  later(paint);
}

function record({kind, tookMs}, atMs) {
  const {counts, moves} = past;
  if (kind === "completed" || kind === "cancelled" || kind === "failed" || kind === "yielded") counts.add("ended", atMs);
  if (MOVED.has(kind)) counts.add("moved", atMs);
  if (["started", "takeover", "handoff", "yielded", "failed", "joined", "draining", "left"].includes(kind)) counts.add(kind, atMs);
  if (MOVED.has(kind) && tookMs !== null) moves.add(atMs, tookMs, kind);
}

let reading = false;
let readAgain = false;

/** Read the live calls anew, page by page; events go on meanwhile. */
async function readCalls() {
  readAgain = reading;
  if (reading) return;
  reading = true;
  readAtMs = Date.now();
  model.beginList();
  try {
    for (const state of ["active", "pending"]) {
      for (let cursor = ""; cursor !== null; ) {
        const page = await api.json(`calls?state=${state}&limit=${PAGE}&cursor=${encodeURIComponent(cursor)}`);
        model.list(page.calls);
        later(paint);
        cursor = page.cursor;
      }
    }
    model.endList();
  } catch {
    model.dropList(); // the banner tells why; it is read again when the balancer answers
    readAgain = true;
  }
  reading = false;
  later(paint);
  if (readAgain) setTimeout(readCalls, INSTANCES_EVERY_MS);
}

let readAtMs = 0;

/** Read the instances; returns false if that cannot be done now. */
async function readInstances() {
  const askedMs = Date.now();
  try {
    const answer = await api.ask("instances");
    aheadMs = skew(answer.headers.get("Date"), askedMs, Date.now());
    model.setInstances((await answer.json()).instances, now());
  } catch (error) {
    const answered = error instanceof Problem && error.status > 0;
    if (answered) health.good("reach");
    health.bad(answered ? "store" : "reach", error.message);
    return false;
  }
  health.good("reach");
  health.good("store");
  // Redis may have forgotten what no event tells of: if the instances count otherwise for long, all is read anew.
  if (model.astray >= ASTRAY_FOR && Date.now() - readAtMs > READ_AT_MOST_EVERY_MS) void readCalls();
  later(paint);
  return true;
}

let wakeInstances = () => {};

function instancesSoon() {
  setTimeout(() => wakeInstances(), 150);
}

async function keep(read, everyMs) {
  for (;;) {
    await read();
    await new Promise((resolve) => {
      if (read === readInstances) wakeInstances = resolve;
      setTimeout(resolve, document.hidden ? HIDDEN_EVERY_MS : everyMs);
    });
  }
}

async function readMetrics() {
  try {
    const text = await (await api.ask("metrics")).text();
    past.latency.read(text, now());
    past.renewals.read(text, now());
  } catch {
    past.renewals.read("", now()); // the charts show a gap
  }
}

// -- what is done ---------------------------------------------------------------------------------------------------

async function act(path, method, done) {
  try {
    await api.ask(path, {method});
    notice(done);
  } catch (error) {
    notice(`That did not work: ${error.message}`, true);
  }
}

async function end(callId) {
  if (!await confirmed(`End call ${callId}?`, "Its session is cancelled wherever it runs. This cannot be undone.", "End call")) return;
  await act(`calls/${encodeURIComponent(callId)}`, "DELETE", `Call ${callId} is ended`);
  panel.touch("call", callId);
}

async function drain(instanceId) {
  const sessions = model.groups.get(instanceId)?.size ?? 0;
  const text = `It takes no more calls, hands off ${sessions === 1 ? "its session" : `its ${sessions} sessions`}, and exits.`;
  if (!await confirmed(`Drain ${instanceId}?`, text, "Drain")) return;
  await act(`instances/${encodeURIComponent(instanceId)}/drain`, "POST", `${instanceId} drains`);
  instancesSoon();
}

// -- the beginning --------------------------------------------------------------------------------------------------

const feedEvents = {
  open: (again) => {
    health.good("feed");
    if (again) {
      wakeInstances();
      void readCalls();
    }
  },
  events: take,
  reset: () => void readCalls(),
  down: (why) => health.bad("feed", why),
};

async function begin() {
  searchField((text, most) => model.search(text, most), on.open);
  paintMinutes();
  panel.follow();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAnew);
  addEventListener("resize", () => later(paintMinutes));
  document.addEventListener("visibilitychange", () => document.hidden || wakeInstances());
  setInterval(tick, 200);
  setInterval(() => {
    model.age(now());
    if (model.dirty.size || model.membersChanged) later(paint);
    later(paintMinutes);
  }, 1000);
  let wake = () => {};
  $("retry").addEventListener("click", () => wake());
  while (!await readInstances()) {
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, INSTANCES_EVERY_MS);
    });
  }
  // An event's id begins with its time: behind one that could have been five minutes ago, the last five minutes come.
  const feed = new Feed(api, `${Math.floor(now() - LOOK_BACK_MS)}-0-0`, feedEvents);
  wake = () => feed.retry();
  addEventListener("online", () => feed.retry());
  void feed.run();
  void readCalls();
  void keep(readInstances, INSTANCES_EVERY_MS);
  void keep(readMetrics, METRICS_EVERY_MS);
}

void begin();
