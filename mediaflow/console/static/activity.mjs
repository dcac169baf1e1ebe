// What people should hear of, in sentences. A worker that dies moves dozens of calls: that is one line, which grows.

import {clock, count, duration, make, say} from "./dom.mjs";
import {quantile} from "./past.mjs";

const KEPT = 200;
const SHOWN = 60;
const TOGETHER_MS = 5000;
const NAMED = 3;

const WORDS = {
  takeover: {one: "taken over", icon: "takeover"},
  handoff: {one: "handed off", icon: "handoff"},
  readopted: {one: "put back by its owner", many: "put back by their owners", icon: "readopted"},
  yielded: {one: "yielded to a senior sibling", icon: "handoff"},
  failed: {one: "failed", icon: "bad"},
  lost: {one: "given up by a former owner", icon: "waiting"},
  queued: {one: "waits for a free slot", many: "wait for a free slot", icon: "waiting"},
};

/** The lines, newest first; no page is needed to gather them. */
export class Lines {
  list = [];
  #serial = 0;

  /** Take up what the model made of an event. */
  add({kind, event, from, tookMs}, nowMs) {
    const atMs = Date.parse(event.at);
    if (kind in WORDS) this.#session(kind, event, from ?? "", tookMs, atMs);
    else if (kind === "joined" || kind === "draining" || kind === "left") this.#push({kind, event, atMs, nowMs});
  }

  #session(kind, event, from, tookMs, atMs) {
    const to = kind === "failed" || kind === "queued" ? "" : event.instanceId ?? "";
    let line = this.list.slice(0, 12).find(
      (one) => one.kind === kind && one.from === from && Math.abs(atMs - one.lastMs) < TOGETHER_MS,
    );
    if (!line) {
      line = {kind, from, atMs, lastMs: atMs, total: 0, to: new Map(), calls: [], times: [], reason: ""};
      this.#push(line);
    }
    line.total += 1;
    line.lastMs = Math.max(line.lastMs, atMs);
    line.changed = true;
    if (to) line.to.set(to, (line.to.get(to) ?? 0) + 1);
    if (line.calls.length < NAMED) line.calls.push(event.callId);
    if (tookMs !== null && tookMs !== undefined) line.times.push(tookMs);
    if (kind === "failed" || kind === "yielded") line.reason = event.reason ?? "";
  }

  #push(line) {
    this.#serial += 1;
    line.id = this.#serial;
    line.changed = true;
    this.list.unshift(line);
    this.list.length = Math.min(this.list.length, KEPT);
  }
}

/** Say a line in a sentence. */
export function sentence(line) {
  if (line.event) {
    const reason = line.event.reason ? `: ${line.event.reason}` : "";
    const verb = {joined: "joined", draining: "drains", left: "left"}[line.kind];
    return `${line.event.instanceId} ${verb}${reason}`;
  }
  const words = WORDS[line.kind];
  const who = line.total === 1 ? line.calls[0] : count(line.total, "session");
  const verb = line.total === 1 ? words.one : (words.many ?? words.one);
  return `${who} ${verb}${line.kind === "failed" && line.reason ? `: ${line.reason}` : ""}`;
}

/** Say below it where the sessions went, and how quickly. */
function further(line) {
  if (line.event) return "";
  const to = [...line.to].sort((a, b) => b[1] - a[1]);
  const names = to.slice(0, 4).map(([id, total]) => (line.total > 1 ? `${id} (${total})` : id)).join(", ");
  const more = to.length > 4 ? ` and ${to.length - 4} more` : "";
  const way = line.from && names ? `${line.from} → ${names}${more}` : names + more;
  const times = [...line.times].sort((a, b) => a - b);
  const took = times.length && (line.kind === "takeover" || line.kind === "handoff")
    ? `in ${times.length > 1 ? `${duration(quantile(times, 0.5))}, at most ` : ""}${duration(times.at(-1))}` : "";
  return [way, took].filter(Boolean).join(" · ");
}

/** Paint the newest lines into a list; one that did not change is left alone. */
export function paintLines(list, lines) {
  const shown = lines.list.slice(0, SHOWN);
  const there = new Map([...list.children].map((node) => [node.dataset.line, node]));
  shown.forEach((line, index) => {
    let node = there.get(String(line.id));
    there.delete(String(line.id));
    if (!node) {
      node = make("li", {"data-line": line.id},
        make("span", {class: `pip ${iconOf(line)}`, "aria-hidden": "true"}),
        make("div", {}, make("p"), make("p", {class: "quiet"})),
        make("time", {class: "quiet", datetime: new Date(line.atMs).toISOString()}, clock(line.atMs)));
    }
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    if (!line.changed) return;
    line.changed = false;
    const [text, more] = node.querySelectorAll("p");
    if (line.total === 1) {
      text.replaceChildren(make("a", {href: `#call/${encodeURIComponent(line.calls[0])}`}, line.calls[0]),
        sentence(line).slice(line.calls[0].length));
    } else say(text, sentence(line));
    say(more, further(line));
    more.hidden = !more.textContent;
    calls(node, line);
  });
  for (const node of there.values()) node.remove();
}

/** Name some of the calls of a line that tells of many, each a way to its history. */
function calls(node, line) {
  node.querySelector(".calls")?.remove();
  if (line.event || line.total < 2) return;
  const links = line.calls.flatMap((id) => [make("a", {href: `#call/${encodeURIComponent(id)}`}, id), " "]);
  const more = line.total > line.calls.length ? `and ${(line.total - line.calls.length).toLocaleString("en")} more` : "";
  node.children[1].append(make("p", {class: "calls quiet"}, ...links, more));
}

function iconOf(line) {
  if (line.event) return {joined: "good", draining: "warn", left: line.event.reason === "drained" ? "calm" : "bad"}[line.kind];
  return WORDS[line.kind].icon;
}
