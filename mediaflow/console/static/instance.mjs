// One instance: what it says of itself, and its sessions, some at a time, with their leases running down.

import {duration, make, say} from "./dom.mjs";
import {leaseBar, show} from "./lease.mjs";
import {facts, table, wrong} from "./panel.mjs";

const PAGE = 15;
const AT_ONCE = 3;

/** The view of an instance; `on` has `api`, `model` and `drain(instanceId)`. */
export function instanceView(instanceId, body, on) {
  const about = make("div");
  const list = make("div");
  const actions = make("div", {class: "head"});
  let first = 0;
  let rows = new Map();

  const turn = (by) => () => {
    first = Math.max(0, first + by);
    draw();
  };

  /** Make the rows of this page of sessions; returns those sessions. */
  function draw() {
    const group = on.model.groups.get(instanceId);
    const all = (group?.cells ?? []).filter(Boolean);
    if (first >= all.length) first = Math.max(0, Math.floor((all.length - 1) / PAGE) * PAGE);
    const shown = all.slice(first, first + PAGE);
    const place = make("span", {class: "quiet"});
    say(place, all.length ? `${first + 1}–${first + shown.length} of ${all.length.toLocaleString("en")}` : "none");
    const fresh = new Map();
    for (const session of shown) {
      fresh.set(session.id, rows.get(session.id) ?? {
        fence: make("span", {class: "mono"}, String(session.fence)),
        attempt: make("span", {}, session.attempt === null ? "…" : String(session.attempt)), bar: leaseBar(),
      });
    }
    const key = `${first}/${all.length}/${[...fresh.keys()].join()}`;
    if (list.dataset.key !== key) {
      list.dataset.key = key;
      rows = fresh;
      list.replaceChildren(
        make("h3", {}, "Sessions ", place,
          make("button", {type: "button", class: "plain", disabled: first === 0, "aria-label": "Sessions before these", click: turn(-PAGE)}, "‹"),
          make("button", {type: "button", class: "plain", disabled: first + PAGE >= all.length, "aria-label": "Sessions after these", click: turn(PAGE)}, "›")),
        table("Sessions", ["Call", "Fence", "Try", "Lease"], shown.map((session) => {
          const row = rows.get(session.id);
          return [make("a", {href: `#call/${encodeURIComponent(session.callId)}`}, session.callId), row.fence, row.attempt, row.bar];
        })));
    }
    return shown;
  }

  async function look(session, signal) {
    const call = await on.api.json(`calls/${encodeURIComponent(session.callId)}`, {signal});
    const found = call.sessions.find((one) => one.sessionId === session.id);
    const row = rows.get(session.id);
    if (!found || !row) return;
    say(row.fence, String(found.fence));
    say(row.attempt, String(found.attempt));
    show(row.bar, found.state === "active" ? found.leaseRemainingMs : null);
  }

  return {
    kind: "Instance",
    async refresh(signal) {
      const group = on.model.groups.get(instanceId);
      if (!group) {
        body.replaceChildren(wrong({status: 404, message: "It is not there any more."}));
        return;
      }
      const state = group.goneAtMs ? "gone" : group.state;
      about.replaceChildren(facts([
        ["State", group.goneAtMs && group.why ? `gone: ${group.why}` : state], ["Address", group.address ?? "embedded"],
        ["Slots", `${group.size} of ${group.slots} in use`],
        ["Heartbeat", group.goneAtMs ? "none" : `${duration(group.heartbeatAgeMs)} ago`]]));
      if (actions.dataset.state !== state) {
        actions.dataset.state = state;
        actions.replaceChildren(make("span", {class: `badge ${state}`}, state), state === "ready"
          ? make("button", {type: "button", click: () => on.drain(instanceId)}, "Drain") : "");
      }
      if (!about.isConnected) body.replaceChildren(actions, about, list);
      const waiting = draw();
      const lanes = Array.from({length: AT_ONCE}, async () => {
        for (let session = waiting.shift(); session && !signal.aborted; session = waiting.shift()) {
          // One that ended meanwhile leaves with its event; one that cannot be asked for now is asked for again.
          await look(session, signal).catch(() => {});
        }
      });
      await Promise.all(lanes);
    },
  };
}
