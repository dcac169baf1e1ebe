// One call: who has it, how long its lease still runs, and its whole history.

import {clock, count, duration, make, say} from "./dom.mjs";
import {spans} from "./history.mjs";
import {leaseBar, show} from "./lease.mjs";
import {facts, wrong} from "./panel.mjs";

const LIVE = new Set(["active", "pending"]);
const BEGAN = {
  started: "started here", takeover: "taken over", handoff: "handed off to it", readopted: "put back by it",
  retry: "tried again", waiting: "waiting for an owner",
};

/** The view of a call; `on` has `api`, `end(callId)` and `now()`, the time by the clock of events. */
export function callView(callId, body, on) {
  const parts = {
    head: make("div", {class: "head"}), sessions: make("div", {class: "sessions"}), story: make("div"), events: make("div"),
  };
  const bars = new Map();
  const seen = {};
  return {
    kind: "Call",
    async refresh(signal) {
      try {
        const path = `calls/${encodeURIComponent(callId)}`;
        const [call, {events}] = await Promise.all([
          on.api.json(path, {signal}).catch((error) => (error.status === 404 ? null : Promise.reject(error))),
          on.api.json(`${path}/history`, {signal}),
        ]);
        if (!parts.head.isConnected) body.replaceChildren(...Object.values(parts));
        // Only what changed is made anew: focus and selection stay where they are.
        changed(seen, "head", call?.state, () => head(parts.head, callId, call, on));
        const shape = (call?.sessions ?? []).map((one) => [one.sessionId, one.state, one.owner, one.fence, one.attempt, one.details]);
        changed(seen, "sessions", shape, () => sessions(parts.sessions, call, bars));
        for (const one of call?.sessions ?? []) {
          if (bars.has(one.sessionId)) show(bars.get(one.sessionId), one.leaseRemainingMs);
        }
        changed(seen, "events", [events.length, events.at(-1)?.id], () => {
          story(parts.story, events, on.now());
          log(parts.events, events);
        });
        lasting(parts.story, on.now());
      } catch (error) {
        if (signal.aborted) return;
        for (const name of Object.keys(seen)) delete seen[name];
        body.replaceChildren(wrong(error));
      }
    },
  };
}

function changed(seen, name, value, make_) {
  const text = JSON.stringify(value ?? null);
  if (seen[name] === text) return;
  seen[name] = text;
  make_();
}

function head(node, callId, call, on) {
  if (!call) {
    node.replaceChildren(make("p", {class: "quiet"}, "It ended longer than the retention ago. What the log still holds:"));
    return;
  }
  const end = make("button", {type: "button", class: "danger", click: () => on.end(callId)}, "End call");
  node.replaceChildren(make("span", {class: `badge ${call.state}`}, call.state), LIVE.has(call.state) ? end : "");
}

function sessions(node, call, bars) {
  bars.clear();
  const list = (call?.sessions ?? []).map((one) => {
    const owner = one.owner ? make("a", {href: `#instance/${encodeURIComponent(one.owner)}`}, one.owner) : "nobody";
    const pairs = [["Session", make("span", {class: "mono"}, one.sessionId)], ["State", one.state], ["Owner", owner],
      ["Fence", make("span", {class: "mono"}, String(one.fence || "–"))], ["Attempt", String(one.attempt)]];
    if (one.state === "active") {
      bars.set(one.sessionId, leaseBar());
      pairs.push(["Lease", bars.get(one.sessionId)]);
    }
    if (one.endReason) pairs.push(["End", one.endReason]);
    if (Object.keys(one.details ?? {}).length) {
      pairs.push(["Details", make("code", {class: "json"}, JSON.stringify(one.details))]);
    }
    return facts(pairs);
  });
  node.replaceChildren(...list);
}

/** Who had it, from when to when, and why it moved. */
function story(node, events, nowMs) {
  const found = spans(events);
  if (!found.length) {
    node.replaceChildren(make("p", {class: "quiet"}, "The log holds no event of it any more."));
    return;
  }
  const owners = [...new Set(found.map((span) => span.instanceId).filter(Boolean))];
  const [first, last] = [found[0].fromMs, Math.max(...found.map((span) => span.toMs ?? nowMs))];
  const strip = make("div", {class: "strip", "aria-hidden": "true"}, ...found.map((span) => {
    const part = make("i", {class: span.instanceId ? `hue-${owners.indexOf(span.instanceId) % 6}` : "nobody"});
    part.style.flexGrow = String(Math.max(0.004, ((span.toMs ?? nowMs) - span.fromMs) / Math.max(1, last - first)));
    return part;
  }));
  const many = new Set(found.map((span) => span.sessionId)).size > 1;
  const rail = make("ol", {class: "rail"}, ...found.map((span) => {
    const hue = span.instanceId ? `hue-${owners.indexOf(span.instanceId) % 6}` : "nobody";
    const until = span.toMs === null ? "now" : clock(span.toMs);
    return make("li", {class: span.instanceId ? "" : "gap"},
      make("span", {class: `pip ${hue}`, "aria-hidden": "true"}),
      make("p", {}, make("b", {}, span.instanceId ?? "No owner"), " ",
        span.instanceId ? make("span", {class: "quiet"}, BEGAN[span.began] ?? span.began) : "",
        make("span", {class: "took", "data-from": span.toMs === null ? span.fromMs : null},
          duration((span.toMs ?? nowMs) - span.fromMs))),
      make("p", {class: "quiet"}, `${clock(span.fromMs)} – ${until}`, span.fence && span.instanceId ? ` · fence ${span.fence}` : "",
        many ? ` · session …${span.sessionId.slice(-6)}` : ""),
      span.toMs !== null && span.instanceId
        ? make("p", {class: span.ended === "failed" ? "wrong" : "quiet"}, ended(span)) : "");
  }));
  node.replaceChildren(make("h3", {}, "Who had it"), strip, rail);
}

function ended(span) {
  const why = span.why && span.why !== span.ended ? `: ${span.why}` : "";
  return `${span.ended === "moved" ? "moved away" : span.ended}${why}`;
}

/** Let the span that lasts grow. */
function lasting(node, nowMs) {
  for (const took of node.querySelectorAll("[data-from]")) say(took, duration(nowMs - Number(took.dataset.from)));
}

function log(node, events) {
  const rows = [...events].reverse().slice(0, 200).map((event) => make("li", {},
    make("time", {class: "mono quiet", datetime: event.at}, event.at.slice(11, 23)),
    make("span", {}, make("b", {}, event.event.replace("session.", "")), event.instanceId ? ` ${event.instanceId}` : "",
      event.reason ? make("span", {class: "quiet"}, ` · ${event.reason}`) : "")));
  node.replaceChildren(make("details", {open: events.length <= 12},
    make("summary", {}, `Every event (${count(events.length, "event")}, UTC)`), make("ol", {class: "log"}, ...rows)));
}
