// The last minutes: figures, four charts and the time line, painted once a second.

import {$, count, duration, make, say} from "./dom.mjs";
import {drawLanes, drawLatency, drawMoves, drawRates, drawReadings} from "./draw.mjs";
import {quantile} from "./past.mjs";

const HEIGHT = 112;
const RATES = [["started", "active"], ["ended", "ended"], ["moved", "takeover"]];
const LANES = [
  {name: "Instances", kinds: [["joined", "good"], ["draining", "warn"], ["left", "bad"]]},
  {name: "Takeovers", kinds: [["takeover", "takeover"]]},
  {name: "Handoffs", kinds: [["handoff", "handoff"]]},
  {name: "Yields", kinds: [["yielded", "readopted"]]},
  {name: "Failures", kinds: [["failed", "bad"]]},
];
const SPEAK_EVERY = 10;

export class Minutes {
  minutes = 5;
  #painted = 0;

  /** `past` has `counts`, `moves`, `latency` and `renewals`. */
  constructor(past) {
    this.past = past;
    $("lane-names").append(...LANES.map(({name}) => make("li", {}, name)));
    const buttons = [...document.querySelectorAll("[data-minutes]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        this.minutes = Number(button.dataset.minutes);
        for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
        this.paint();
      });
    }
    const canvas = $("lanes");
    canvas.addEventListener("pointermove", (event) => this.#tell(event));
    canvas.addEventListener("pointerleave", () => ($("tip").hidden = true));
  }

  paint(nowMs = this.nowMs) {
    this.nowMs = nowMs;
    const {counts, moves, latency, renewals} = this.past;
    const span = {fromMs: nowMs - this.minutes * 60_000, toMs: nowMs};
    drawLatency($("c-latency"), HEIGHT, span, latency.points);
    drawMoves($("c-moves"), HEIGHT, span, moves.list);
    drawRates($("c-rates"), HEIGHT, span, counts, RATES);
    drawReadings($("c-renewals"), HEIGHT, span, renewals.points);
    drawLanes($("lanes"), span, counts, LANES);
    this.#figures(span);
    if (this.#painted % SPEAK_EVERY === 0) this.#describe(span);
    this.#painted += 1;
  }

  #figures(span) {
    const {counts, moves, latency, renewals} = this.past;
    const total = this.#total(span);
    const within = `in ${this.minutes} min`;
    for (const [id, kind] of [["takeovers", "takeover"], ["handoffs", "handoff"]]) {
      const times = moves.since(span.fromMs, kind);
      say($(`f-${id}`), total(kind).toLocaleString("en"));
      say($(`f-${id}-more`), times.length ? `${within}, median ${duration(quantile(times, 0.5))}` : within);
    }
    say($("f-yields"), total("yielded").toLocaleString("en"));
    say($("f-yields-more"), within);
    const last = latency.points.findLast((point) => point.p50Ms !== null && point.atMs > span.toMs - 30_000);
    say($("c-latency-now"), last ? `p50 ${short(last.p50Ms)} · p95 ${short(last.p95Ms)}` : "no calls just now");
    const times = moves.since(span.fromMs);
    say($("c-moves-now"), times.length ? `p50 ${duration(quantile(times, 0.5))} · max ${duration(times.at(-1))}` : "nothing moved");
    const end = Math.floor(span.toMs / 1000);
    const rate = RATES.reduce((sum, [kind]) => sum + counts.sum(kind, end - 10, end), 0) / 10;
    say($("c-rates-now"), perSecond(rate));
    const renewed = renewals.points.at(-1)?.value ?? null;
    say($("c-renewals-now"), renewed === null ? "not known" : perSecond(renewed));
  }

  #total(span) {
    const [from, to] = [Math.floor(span.fromMs / 1000), Math.floor(span.toMs / 1000) + 1];
    return (kind) => this.past.counts.sum(kind, from, to);
  }

  /** Say in words what the pictures show. */
  #describe(span) {
    const total = this.#total(span);
    const text = (id) => $(id).textContent;
    const within = `in the last ${this.minutes} minutes`;
    $("c-latency").setAttribute("aria-label", `Placing a call: ${text("c-latency-now")}`);
    $("c-moves").setAttribute("aria-label", `Finding the next owner ${within}: ${text("c-moves-now")}`);
    $("c-rates").setAttribute("aria-label", `Changes a second: ${text("c-rates-now")} in the last ten seconds`);
    $("c-renewals").setAttribute("aria-label", `Renewals a second: ${text("c-renewals-now")}`);
    const parts = LANES.slice(1).map(({name, kinds}) => `${kinds.reduce((sum, [kind]) => sum + total(kind), 0)} ${name.toLowerCase()}`);
    $("lanes").setAttribute("aria-label", `Time line ${within}: ${parts.join(", ")}`);
  }

  #tell(event) {
    const canvas = $("lanes");
    const fromMs = this.nowMs - this.minutes * 60_000;
    const second = Math.floor((fromMs + (event.offsetX / (canvas.clientWidth - 4)) * this.minutes * 60_000) / 1000);
    const found = LANES.flatMap(({kinds}) => kinds.map(([kind]) => [kind, this.past.counts.sum(kind, second - 2, second + 3)]))
      .filter(([, sum]) => sum);
    const tip = $("tip");
    tip.hidden = !found.length;
    if (!found.length) return;
    tip.replaceChildren(make("b", {}, new Date(second * 1000).toLocaleTimeString()),
      make("dl", {}, ...found.flatMap(([kind, sum]) => [make("dt", {}, kind), make("dd", {}, sum.toLocaleString("en"))])));
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - 200)}px`;
    tip.style.top = `${event.clientY + 12}px`;
  }
}

function perSecond(rate) {
  return `${rate.toFixed(rate < 10 ? 1 : 0)} /s`;
}

function short(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : duration(ms);
}

/** Paint the figures that are of now. */
export function paintNow(model) {
  const instances = model.instances.filter((group) => !group.goneAtMs);
  const draining = instances.filter((group) => group.state === "draining").length;
  const gone = model.instances.length - instances.length;
  const slots = instances.reduce((sum, group) => sum + group.slots, 0);
  const used = model.sessions.size - model.waiting.size;
  say($("f-instances"), instances.length.toLocaleString("en"));
  say($("f-instances-more"), [draining && `${draining} draining`, gone && `${gone} gone`].filter(Boolean).join(", ")
    || (instances.length ? "all ready" : "none is live"));
  say($("f-used"), used.toLocaleString("en"));
  say($("f-slots"), `of ${slots.toLocaleString("en")}`);
  $("f-meter").value = slots ? Math.min(1, used / slots) : 0;
  const waiting = model.waiting.size;
  say($("f-waiting"), waiting.toLocaleString("en"));
  say($("f-waiting-more"), waiting ? `${count(waiting, "session")} without an owner` : "every session has an owner");
}
