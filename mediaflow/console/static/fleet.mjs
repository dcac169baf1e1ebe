// The instances as cards, each with its slots as a grid; what waits for a slot is a card of its own.

import {$, count, duration, make, say} from "./dom.mjs";
import {drawSlots, layout} from "./draw.mjs";
import {leaseBar, show} from "./lease.mjs";
import {WAITING} from "./model.mjs";

const LOOK_AFTER_MS = 150;
const SILENT_MS = 3500;

export class Fleet {
  #cards = new Map();
  #looking = null;

  /** `on` has `open(kind, id)`, `drain(instanceId)` and `describe(callId)`. */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    new ResizeObserver(() => this.#measure()).observe(list);
  }

  /** Paint what changed. */
  paint(model) {
    this.model = model;
    if (model.membersChanged) this.#members();
    const waiting = this.#cards.get(WAITING);
    const waits = model.waiting.size > 0;
    if (waiting.node.hidden === waits) {
      waiting.node.hidden = !waits;
      waiting.width = 0;
    }
    for (const group of model.dirty) {
      const card = this.#cards.get(group.id);
      if (card && !card.node.hidden) this.#card(card, group);
    }
    model.dirty.clear();
    $("empty").hidden = model.groups.size > 1;
  }

  /** Paint all anew: the colours or the widths changed. */
  repaint() {
    if (!this.model) return;
    for (const group of this.model.groups.values()) this.model.dirty.add(group);
    this.paint(this.model);
  }

  #measure() {
    for (const card of this.#cards.values()) card.width = 0;
    this.repaint();
  }

  #members() {
    const model = this.model;
    model.membersChanged = false;
    const groups = [model.waiting, ...model.instances];
    const ids = new Set(groups.map((group) => group.id));
    for (const [id, card] of this.#cards) {
      if (ids.has(id)) continue;
      card.node.remove();
      this.#cards.delete(id);
    }
    groups.forEach((group, index) => {
      let card = this.#cards.get(group.id);
      if (!card) {
        card = this.#make(group);
        this.#cards.set(group.id, card);
        model.dirty.add(group);
      }
      if (this.list.children[index] !== card.node) {
        this.list.insertBefore(card.node, this.list.children[index] ?? null);
      }
    });
  }

  #make(group) {
    const waiting = group.id === WAITING;
    const name = waiting ? make("h3", {}, "Waiting for an owner")
      : make("h3", {}, make("a", {href: `#instance/${encodeURIComponent(group.id)}`}, group.id));
    const card = {
      group, name, width: 0, chosen: -1,
      badge: make("span", {class: "badge"}),
      used: make("span", {class: "used"}),
      about: make("p", {class: "about quiet"}),
      drain: waiting ? null : make("button", {type: "button", class: "plain", click: () => this.on.drain(group.id)}, "Drain"),
      canvas: make("canvas", {tabindex: "0", role: "application", "aria-roledescription": "slots"}),
    };
    card.node = make("li", {class: `card${waiting ? " waiting" : ""}`, "data-instance": group.id},
      make("header", {}, name, card.badge, card.used), card.canvas,
      make("footer", {}, card.about, card.drain));
    card.drain?.setAttribute("aria-label", `Drain ${group.id}`);
    this.#listen(card);
    return card;
  }

  #card(card, group) {
    card.group = group;
    if (!card.width) card.width = card.canvas.clientWidth || 240;
    card.plan = drawSlots(card.canvas, group, card.width, document.activeElement === card.canvas ? card.chosen : -1);
    const state = group.goneAtMs ? "gone" : group.heartbeatAgeMs > SILENT_MS ? "silent" : group.state;
    card.node.dataset.state = state;
    say(card.badge, {gone: "gone", silent: "silent", draining: "draining", ready: "", waiting: ""}[state]);
    card.badge.hidden = !card.badge.textContent;
    say(card.used, group.id === WAITING ? count(group.size, "session") : `${group.size} / ${group.slots}`);
    say(card.about, about(group, state));
    if (card.drain) card.drain.hidden = state === "gone" || state === "draining";
    const spoken = group.id === WAITING ? count(group.size, "session")
      : `${group.id}: ${group.size} of ${count(group.slots, "slot")} in use. Arrow keys look at sessions.`;
    if (card.canvas.getAttribute("aria-label") !== spoken) card.canvas.setAttribute("aria-label", spoken);
  }

  // -- looking at a cell --------------------------------------------------------------------------------------------

  #listen(card) {
    const {canvas} = card;
    canvas.addEventListener("pointermove", (event) => {
      const {size, step, columns} = card.plan;
      const column = Math.floor(event.offsetX / step);
      const inside = event.offsetX % step <= size && event.offsetY % step <= size && column < columns;
      this.#look(card, inside ? Math.floor(event.offsetY / step) * columns + column : -1);
    });
    canvas.addEventListener("pointerleave", () => this.#look(card, -1));
    canvas.addEventListener("click", () => this.#enter(card, this.#looking?.cell ?? -1));
    canvas.addEventListener("keydown", (event) => this.#key(card, event));
    canvas.addEventListener("blur", () => {
      card.chosen = -1;
      this.#look(card, -1);
      this.#again(card);
    });
  }

  #key(card, event) {
    const {columns} = card.plan;
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[event.key];
    if (step !== undefined) {
      event.preventDefault();
      card.chosen = next(card.group, card.chosen, step);
      this.#again(card);
      this.#look(card, card.chosen);
    } else if (event.key === "Enter") this.#enter(card, card.chosen);
    else if (event.key === "Escape") this.#look(card, -1);
  }

  #again(card) {
    this.model.dirty.add(card.group);
    this.paint(this.model);
  }

  #enter(card, cell) {
    const session = card.group.cells[cell];
    if (session) this.on.open("call", session.callId);
  }

  #look(card, cell) {
    const session = card.group.cells[cell];
    card.canvas.style.cursor = session ? "pointer" : "";
    if (this.#looking?.session === session) return;
    clearTimeout(this.#looking?.timer);
    const tip = $("tip");
    tip.hidden = !session;
    this.#looking = session ? {session, cell, timer: 0} : null;
    if (!session) return;
    const bar = leaseBar();
    const fence = make("span", {class: "mono"}, String(session.fence || "–"));
    const attempt = make("span", {}, session.attempt === null ? "…" : String(session.attempt));
    tip.replaceChildren(make("b", {class: "mono"}, session.callId),
      make("dl", {}, make("dt", {}, "State"), make("dd", {}, stateOf(session)), make("dt", {}, "Fence"), make("dd", {}, fence),
        make("dt", {}, "Attempt"), make("dd", {}, attempt), make("dt", {}, "Lease"), make("dd", {}, bar)));
    place(tip, card, cell);
    this.#looking.timer = setTimeout(() => this.#ask(session, {bar, fence, attempt}), LOOK_AFTER_MS);
  }

  /** Ask for what events do not tell, as long as it is looked at. */
  async #ask(session, {bar, fence, attempt}) {
    while (this.#looking?.session === session) {
      const call = await this.on.describe(session.callId);
      const found = call?.sessions.find((one) => one.sessionId === session.id);
      if (found) {
        say(fence, String(found.fence || "–"));
        say(attempt, String(found.attempt));
        session.attempt = found.attempt;
        show(bar, found.state === "active" ? found.leaseRemainingMs : null);
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

function stateOf(session) {
  const words = {takeover: "running, just taken over", handoff: "running, just handed off", readopted: "running, just put back"};
  if (session.group?.id === WAITING) return session.from ? "pending, its owner is gone" : "pending";
  return words[session.mark] ?? "running";
}

function about(group, state) {
  if (group.id === WAITING) return "Pending: the watchdog gives each to an instance with a free slot.";
  if (state === "gone") return group.why ? `left: ${group.why}` : "no longer there";
  if (state === "silent") return `nothing heard for ${duration(group.heartbeatAgeMs)}`;
  return group.address ?? "embedded, without an address";
}

/** Return the next cell with a session in a direction, the same if there is none. */
function next(group, from, step) {
  const cells = group.cells.length;
  if (from < 0) return group.cells.findIndex(Boolean);
  for (let cell = from + step; cell >= 0 && cell < cells; cell += Math.sign(step) * (Math.abs(step) > 1 ? Math.abs(step) : 1)) {
    if (group.cells[cell]) return cell;
  }
  return from;
}

function place(tip, card, cell) {
  const box = card.canvas.getBoundingClientRect();
  const {step, size, columns} = card.plan ?? layout(card.group.slots, card.width);
  const left = box.left + (cell % columns) * step + size / 2;
  const top = box.top + Math.floor(cell / columns) * step;
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(left - width / 2, innerWidth - width - 8))}px`;
  tip.style.top = `${top > height + 16 ? top - height - 8 : top + size + 8}px`;
}
