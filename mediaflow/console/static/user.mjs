// The streams of one user: how many, which rules are full, and what is in the way of one more.

import {clock, count, make} from "./dom.mjs";
import {leaseBar, show} from "./lease.mjs";
import {wrong} from "./panel.mjs";

/** The view of a user; `on` has `api`. */
export function userView(userId, body, on) {
  let seen = "";
  let bars = [];
  return {
    kind: "Streams of a user",
    async refresh(signal) {
      try {
        const found = await on.api.json(`users/${encodeURIComponent(userId)}/streams`, {signal});
        const shape = JSON.stringify([found.limit, found.rules, found.streams.map((one) => [one.deviceId, one.startedAt])]);
        if (shape !== seen) {
          seen = shape;
          bars = found.streams.map(() => leaseBar());
          body.replaceChildren(...paint(found, bars));
        }
        found.streams.forEach((one, index) => show(bars[index], one.remainingMs));
      } catch (error) {
        if (signal.aborted) return;
        seen = "";
        body.replaceChildren(wrong(error));
      }
    },
  };
}

function paint(found, bars) {
  const full = found.rules.filter((rule) => rule.full);
  const inTheWay = new Map();
  for (const rule of full) {
    for (const index of rule.streams) inTheWay.set(index, [...(inTheWay.get(index) ?? []), name(rule)]);
  }
  const verdict = full.length
    ? make("p", {class: "verdict full"}, `No room for one more under ${full.map(name).join(", ")}.`)
    : make("p", {class: "verdict"}, "There is room for one more.");
  const rules = make("ul", {class: "rules"}, ...found.rules.map((rule) => make("li", {class: rule.full ? "full" : ""},
    make("span", {}, make("b", {}, name(rule)), make("small", {class: "quiet"}, ` ${condition(rule)}`)),
    make("span", {class: "places", "aria-hidden": "true"}, ...places(rule)),
    make("span", {class: "used"}, `${rule.taken} of ${rule.threshold}`))));
  const streams = found.streams.map((one, index) => make("li", {class: inTheWay.has(index) ? "full" : ""},
    make("p", {}, make("b", {}, one.deviceId), make("span", {class: "quiet"}, ` since ${clock(Date.parse(one.startedAt))}`)),
    Object.keys(one.metadata).length ? make("p", {class: "mono quiet"}, JSON.stringify(one.metadata)) : "",
    make("p", {class: "quiet"}, "without a heartbeat it ends in ", bars[index]),
    inTheWay.has(index) ? make("p", {class: "quiet"}, `in the way under ${inTheWay.get(index).join(", ")}`) : ""));
  return [verdict, make("h3", {}, "Rules"), rules, make("h3", {}, `Playing now (${count(found.streams.length, "stream")})`),
    found.streams.length ? make("ol", {class: "streams"}, ...streams) : make("p", {class: "quiet"}, "Nothing plays.")];
}

const SHOWN_PLACES = 12;

function places(rule) {
  const total = Math.min(SHOWN_PLACES, Math.max(rule.threshold, rule.taken));
  return Array.from({length: total}, (_, index) => make("i", {class: index < rule.taken ? "taken" : ""}));
}

function name(rule) {
  const by = rule.attribute ? ` (${rule.attribute}${rule.value === null ? "" : ` = ${rule.value}`})` : "";
  return `${rule.policy === "user" ? "limit of the user" : rule.policy}${by}`;
}

function condition(rule) {
  const where = Object.entries(rule.where).map(([key, value]) => `${key} = ${value}`).join(", ");
  return `counts ${rule.rule}${where ? ` where ${where}` : ""}`;
}
