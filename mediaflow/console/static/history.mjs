// The history of one call as spans: which instance had it, from when to when, and why it moved. No page, no clock.

const BEGINS = {
  "session.activated": "started", "session.takeover": "takeover", "session.handoff": "handoff",
  "session.readopted": "readopted",
};
const ENDS = {
  "session.completed": "completed", "session.failed": "failed", "session.cancelled": "cancelled",
  "session.yielded": "yielded",
};

/**
 * Return the spans of a call's events, oldest first:
 * `{sessionId, instanceId, fence, fromMs, toMs, began, ended, why}`. `instanceId` is null while nobody had it,
 * `toMs` null while it lasts, `ended` is `moved` or how the session ended.
 */
export function spans(events) {
  const found = [];
  const open = new Map();
  const close = (sessionId, atMs, ended, why) => {
    const span = open.get(sessionId);
    if (!span) return;
    Object.assign(span, {toMs: atMs, ended, why: why ?? ""});
    open.delete(sessionId);
  };
  const begin = (event, instanceId, began, atMs) => {
    const span = {
      sessionId: event.sessionId, instanceId, fence: event.fence, fromMs: atMs, toMs: null, began, ended: "", why: "",
    };
    open.set(event.sessionId, span);
    found.push(span);
  };
  for (const event of events) {
    const atMs = Date.parse(event.at);
    if (event.event === "session.pending") {
      close(event.sessionId, atMs, "moved", event.reason);
      begin(event, null, "waiting", atMs);
    } else if (event.event in BEGINS) {
      const running = open.get(event.sessionId);
      if (running?.instanceId === event.instanceId && running.instanceId !== null) {
        running.fence = event.fence; // it goes on here, under another fence
        continue;
      }
      close(event.sessionId, atMs, running?.instanceId ? "moved" : "found", event.reason);
      begin(event, event.instanceId, event.reason === "retry" ? "retry" : BEGINS[event.event], atMs);
    } else if (event.event in ENDS) {
      close(event.sessionId, atMs, ENDS[event.event], event.reason);
    }
  }
  return found;
}
