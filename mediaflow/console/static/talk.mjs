// What the page says to the person and asks of them: the banner, the token, confirmations, notices, and a few words
// for screen readers.

import {$, clock, say} from "./dom.mjs";
import {sentence} from "./activity.mjs";

const NOTICE_MS = 6000;
const SPEAK_MS = 4000;
const SPOKEN_AT_ONCE = 3;
const SPOKEN = new Set(["takeover", "handoff", "yielded", "failed", "left", "draining"]);

/** Ask for the token until something was typed. */
export async function askToken(wasWrong) {
  const dialog = $("token");
  const value = $("token-value");
  value.value = "";
  $("token-wrong").hidden = !wasWrong;
  dialog.oncancel = (event) => event.preventDefault(); // without it there is nothing to see
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, {once: true}));
  return value.value.trim();
}

/** Ask whether something is meant; resolves to true or false. */
export async function confirmed(title, text, yes) {
  const dialog = $("confirm");
  say($("confirm-title"), title);
  say($("confirm-text"), text);
  say($("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, {once: true}));
  return dialog.returnValue === "yes";
}

let noticed = 0;

/** Tell how an action went. */
export function notice(text, bad = false) {
  const node = $("notice");
  node.classList.toggle("bad", bad);
  node.hidden = false;
  say(node, text);
  clearTimeout(noticed);
  noticed = setTimeout(() => (node.hidden = true), NOTICE_MS);
}

/** Whether what the page shows is of now: it says since when it is not, and why. */
export class Health {
  #troubles = new Map();
  connected = false;

  /** `what` is `feed` (no events), `reach` (no answers) or `store` (answers, but none of the store). */
  bad(what, why) {
    const sinceMs = this.#troubles.get(what)?.sinceMs ?? Date.now();
    this.#troubles.set(what, {sinceMs, why});
    this.#show();
  }

  good(what) {
    if (what === "feed") this.connected = true;
    this.#troubles.delete(what);
    this.#show();
  }

  #show() {
    const feed = this.#troubles.get("feed") ?? this.#troubles.get("reach");
    const trouble = feed ?? this.#troubles.get("store");
    document.body.dataset.feed = trouble ? "stale" : this.connected ? "live" : "connecting";
    say($("feed-text"), feed ? "Disconnected" : trouble ? "No store" : this.connected ? "Live" : "Connecting");
    $("banner").hidden = !trouble;
    if (!trouble) return;
    const since = clock(trouble.sinceMs);
    say($("banner-title"), feed ? (this.connected ? `Disconnected since ${since}.` : "Not connected yet.")
      : `The balancer cannot read its store since ${since}.`);
    say($("banner-text"), `${trouble.why[0].toUpperCase()}${trouble.why.slice(1)}. ${
      this.connected ? "What you see is from then; calls go on without this page. " : ""}It is tried again and again.`);
  }
}

/** Says the news aloud, a few sentences at a time, never a stream of them. */
export class Speaker {
  #waiting = new Map();
  #timer = 0;

  hear(lines) {
    for (const line of lines) if (line.changed && SPOKEN.has(line.kind)) this.#waiting.set(line.id, line);
    if (this.#waiting.size && !this.#timer) this.#timer = setTimeout(() => this.#speak(), SPEAK_MS);
  }

  #speak() {
    this.#timer = 0;
    const lines = [...this.#waiting.values()];
    this.#waiting.clear();
    const more = lines.length > SPOKEN_AT_ONCE ? `, and ${lines.length - SPOKEN_AT_ONCE} more` : "";
    say($("spoken"), lines.slice(-SPOKEN_AT_ONCE).map(sentence).join(". ") + more);
  }
}
