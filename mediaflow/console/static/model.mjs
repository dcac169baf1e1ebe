// What runs where, as far as the page knows: a list of live calls, and then every event. No page, no clock, no network.
//
// The list is read page by page while events arrive. A session that an event has named is as the last event says,
// whatever the list says: all events come, in order, so the picture becomes right with the last of them.

export const WAITING = "";
const ENDS = new Set(["session.completed", "session.failed", "session.cancelled", "session.yielded"]);
const GAINS = new Map([
  ["session.activated", "started"],
  ["session.takeover", "takeover"],
  ["session.handoff", "handoff"],
  ["session.readopted", "readopted"],
]);
const MARKED_MS = 8000;
const GONE_KEPT_MS = 45_000;

/** One instance, or the queue of what waits (`WAITING`): its sessions in cells that keep their place. */
class Group {
  constructor(id) {
    this.id = id;
    this.address = null;
    this.slots = 0;
    this.used = 0;
    this.state = id === WAITING ? "waiting" : "ready";
    this.heartbeatAgeMs = 0;
    this.goneAtMs = 0;
    this.why = "";
    this.astray = 0;
    this.cells = [];
    this.size = 0;
    this.lowest = 0;
  }

  put(session) {
    let at = this.lowest;
    while (this.cells[at]) at += 1;
    this.cells[at] = session;
    this.lowest = at + 1;
    this.size += 1;
    session.cell = at;
    session.group = this;
  }

  take(session) {
    this.cells[session.cell] = undefined;
    this.lowest = Math.min(this.lowest, session.cell);
    this.size -= 1;
    session.group = null;
    if (this.size === 0) this.cells.length = 0;
  }
}

export class Model {
  groups = new Map([[WAITING, new Group(WAITING)]]);
  sessions = new Map();
  dirty = new Set();
  membersChanged = true;
  #marked = new Map();
  #touched = null;
  #listed = null;

  get waiting() {
    return this.groups.get(WAITING);
  }

  /** The instances, by name. */
  get instances() {
    return [...this.groups.values()].filter((group) => group.id !== WAITING).sort((a, b) => order(a.id, b.id));
  }

  /** Take up one event; `nowMs` is by the clock of events. Returns what the rest of the page is to be told. */
  apply(event, nowMs) {
    const name = event.event;
    if (name.startsWith("instance.")) return this.#instanceEvent(event, Date.parse(event.at));
    this.#touched?.add(event.sessionId);
    if (name === "session.pending") return this.#pending(event);
    if (GAINS.has(name)) return this.#gained(event, GAINS.get(name), nowMs);
    if (ENDS.has(name)) return this.#ended(event);
    return {kind: name.slice("session.".length), event};
  }

  /** Begin to read the list of live calls anew. */
  beginList() {
    this.#touched = new Set();
    this.#listed = new Set();
  }

  /** Take up a page of the list. */
  list(calls) {
    for (const call of calls) {
      for (const found of call.sessions) {
        if (found.state !== "active" && found.state !== "pending") continue;
        this.#listed.add(found.sessionId);
        if (this.#touched.has(found.sessionId)) continue;
        const session = this.#session(found.sessionId, call.callId);
        session.fence = found.fence;
        session.attempt = found.attempt;
        this.#move(session, found.state === "active" ? found.owner : WAITING);
      }
    }
  }

  /** The list could not be read to its end: what is known stays. */
  dropList() {
    this.#touched = null;
    this.#listed = null;
  }

  /** The list is complete: what it does not name, and no event named meanwhile, is not there. */
  endList() {
    for (const session of [...this.sessions.values()]) {
      if (!this.#listed.has(session.id) && !this.#touched.has(session.id)) this.#forget(session);
    }
    this.dropList();
  }

  /** Take up what `GET /instances` answered. */
  setInstances(found, nowMs) {
    const named = new Set();
    for (const one of found) {
      named.add(one.instanceId);
      const group = this.#group(one.instanceId);
      if (group.slots !== one.slots || group.state !== one.state || group.goneAtMs) this.dirty.add(group);
      Object.assign(group, {
        address: one.address, slots: one.slots, used: one.used, state: one.state,
        heartbeatAgeMs: one.heartbeatAgeMs, goneAtMs: 0, why: "",
      });
      const way = Math.sign(group.used - group.size);
      group.astray = way === Math.sign(group.astray) ? group.astray + way : way;
    }
    for (const group of this.groups.values()) {
      if (group.id !== WAITING && !named.has(group.id) && !group.goneAtMs) this.#gone(group, nowMs, "");
    }
  }

  /**
   * For how many readings in a row some instance has counted more sessions than the page, or fewer in each: where
   * calls come and go, a heartbeat is off now this way and now that.
   */
  get astray() {
    return Math.max(0, ...this.instances.map((group) => (group.goneAtMs ? 0 : Math.abs(group.astray))));
  }

  /** Let marks fade and instances go that have been gone for a while. */
  age(nowMs) {
    for (const [session, untilMs] of this.#marked) {
      if (untilMs > nowMs) break; // marks are in the order in which they end
      this.#marked.delete(session);
      session.mark = "";
      if (session.group) this.dirty.add(session.group);
    }
    for (const group of [...this.groups.values()]) {
      if (!group.goneAtMs || group.size || nowMs - group.goneAtMs < GONE_KEPT_MS) continue;
      this.groups.delete(group.id);
      this.membersChanged = true;
    }
  }

  /** Calls whose id contains a text, those that begin with it first; `most` of them. */
  search(text, most) {
    const first = new Set();
    const further = new Set();
    for (const {callId} of this.sessions.values()) {
      if (callId.startsWith(text)) first.add(callId);
      else if (callId.includes(text)) further.add(callId);
      if (first.size >= most) break;
    }
    return [...first, ...further].slice(0, most);
  }

  #instanceEvent(event, atMs) {
    const group = this.#group(event.instanceId);
    const what = event.event.slice("instance.".length);
    if (what === "left") this.#gone(group, atMs, event.reason ?? "");
    else group.goneAtMs = 0;
    if (what === "draining") group.state = "draining";
    if (what === "joined") group.state = "ready";
    this.dirty.add(group);
    return {kind: what, event};
  }

  #pending(event) {
    const session = this.#session(event.sessionId, event.callId);
    session.from = event.instanceId ?? "";
    session.why = event.reason ?? "";
    session.pendingAtMs = Date.parse(event.at);
    this.#move(session, WAITING);
    return {kind: session.from ? "unowned" : "queued", event};
  }

  #gained(event, kind, nowMs) {
    const session = this.#session(event.sessionId, event.callId);
    const {from, why, pendingAtMs} = session;
    const atMs = Date.parse(event.at);
    session.fence = event.fence;
    if (kind === "takeover" || event.reason === "retry") session.attempt = null; // asked for when it is looked at
    this.#move(session, event.instanceId);
    if (kind !== "started") this.#mark(session, kind, atMs, nowMs);
    const tookMs = pendingAtMs === null ? null : Math.max(0, atMs - pendingAtMs);
    Object.assign(session, {from: "", why: "", pendingAtMs: null});
    return {kind, event, from, why, tookMs};
  }

  #ended(event) {
    const session = this.sessions.get(event.sessionId);
    if (session) this.#forget(session);
    return {kind: event.event.slice("session.".length), event};
  }

  #session(id, callId) {
    let session = this.sessions.get(id);
    if (!session) {
      session = {
        id, callId, fence: 0, attempt: null, group: null, cell: 0, mark: "", from: "", why: "", pendingAtMs: null,
      };
      this.sessions.set(id, session);
    }
    return session;
  }

  #group(id) {
    let group = this.groups.get(id);
    if (!group) {
      group = new Group(id);
      this.groups.set(id, group);
      this.membersChanged = true;
    }
    return group;
  }

  #move(session, groupId) {
    const target = this.#group(groupId);
    if (session.group === target) return;
    if (session.group) {
      this.dirty.add(session.group);
      session.group.take(session);
    }
    target.put(session);
    this.dirty.add(target);
  }

  #forget(session) {
    this.sessions.delete(session.id);
    this.#marked.delete(session);
    if (!session.group) return;
    this.dirty.add(session.group);
    session.group.take(session);
  }

  #gone(group, atMs, why) {
    group.goneAtMs = atMs;
    group.why = why || group.why;
    this.dirty.add(group);
  }

  #mark(session, kind, atMs, nowMs) {
    if (nowMs - atMs > MARKED_MS) return;
    this.#marked.delete(session);
    this.#marked.set(session, nowMs + MARKED_MS);
    session.mark = kind;
  }
}

/** Order names as people count: worker-2 before worker-10. */
const COLLATOR = new Intl.Collator("en", {numeric: true});
const order = COLLATOR.compare;
