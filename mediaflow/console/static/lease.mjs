// A lease as a bar that runs down between two looks at it, and fills again when the look shows a renewal.

import {make, say} from "./dom.mjs";

const bars = new Set();
let longestMs = 3000; // the time to live is not told: it is the longest that was ever seen to remain

/** Make a bar; `show` it what a session's lease still has. */
export function leaseBar() {
  const fill = make("i");
  const text = make("span");
  const node = make("span", {class: "lease"}, make("span", {class: "track", "aria-hidden": "true"}, fill), text);
  return Object.assign(node, {fill, text, untilMs: 0});
}

/** Take up what remains of a lease now; null where there is none. */
export function show(bar, remainingMs) {
  bar.untilMs = remainingMs === null ? 0 : performance.now() + remainingMs;
  longestMs = Math.max(longestMs, remainingMs ?? 0);
  bars.add(bar);
  paint(bar);
}

/** Let all bars on the page run down; those that left it are forgotten. */
export function tick() {
  for (const bar of bars) {
    if (bar.isConnected) paint(bar);
    else bars.delete(bar);
  }
}

function paint(bar) {
  const leftMs = Math.max(0, bar.untilMs - performance.now());
  bar.classList.toggle("none", bar.untilMs === 0);
  bar.classList.toggle("low", bar.untilMs > 0 && leftMs < longestMs / 3);
  bar.fill.style.width = `${(100 * leftMs) / longestMs}%`;
  say(bar.text, bar.untilMs ? `${(leftMs / 1000).toFixed(1)} s` : "none");
}
