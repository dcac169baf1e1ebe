// The last minutes in numbers: counts a second in rings of fixed size, times of moves, and latencies out of /metrics.
// No page, no clock, no network.

export const SPAN_S = 900;
const MOVES_KEPT = 4000;
export const KINDS = ["started", "ended", "moved", "takeover", "handoff", "yielded", "failed", "joined", "draining", "left"];

/** Counts of each kind for each of the last `SPAN_S` seconds. */
export class Counts {
  #rings = Object.fromEntries(KINDS.map((kind) => [kind, new Uint32Array(SPAN_S)]));
  #newestS = 0;

  add(kind, atMs) {
    const second = Math.floor(atMs / 1000);
    this.#advance(second);
    if (second > this.#newestS - SPAN_S) this.#rings[kind][second % SPAN_S] += 1;
  }

  /** Return the count of a kind in the second that began at `second` (since the epoch). */
  at(kind, second) {
    return second > this.#newestS || second <= this.#newestS - SPAN_S ? 0 : this.#rings[kind][second % SPAN_S];
  }

  /** Return the sum of a kind over seconds, the last one not included. */
  sum(kind, fromS, toS) {
    let total = 0;
    for (let second = fromS; second < toS; second += 1) total += this.at(kind, second);
    return total;
  }

  #advance(second) {
    if (second <= this.#newestS) return;
    const steps = Math.min(SPAN_S, this.#newestS ? second - this.#newestS : SPAN_S);
    for (let step = 0; step < steps; step += 1) {
      for (const ring of Object.values(this.#rings)) ring[(second - step) % SPAN_S] = 0;
    }
    this.#newestS = second;
  }
}

/** How long moves took, from losing an owner to the next. */
export class Moves {
  list = [];

  add(atMs, tookMs, kind) {
    this.list.push({atMs, tookMs, kind});
    if (this.list.length > MOVES_KEPT) this.list.splice(0, MOVES_KEPT / 4);
  }

  /** Return the times of the moves since a moment, in order of length; of one kind, if it is named. */
  since(atMs, kind) {
    return this.list
      .filter((move) => move.atMs >= atMs && (!kind || move.kind === kind))
      .map((move) => move.tookMs)
      .sort((a, b) => a - b);
  }
}

/** Return the q-quantile of numbers in order, null of none. */
export function quantile(ordered, q) {
  return ordered.length ? ordered[Math.min(ordered.length - 1, Math.floor(q * ordered.length))] : null;
}

/** Latency of placing a call, by this balancer's own histogram: what was added between two readings of /metrics. */
export class Latency {
  points = [];
  #before = null;

  /** Take up a text of /metrics. */
  read(text, atMs) {
    const now = placements(text);
    const before = this.#before;
    this.#before = now;
    if (before === null) return;
    // A balancer that was started anew counts from nothing.
    const restarted = [...before].some(([bound, total]) => (now.get(bound) ?? 0) < total);
    const added = [...now].map(([bound, total]) => [bound, total - (restarted ? 0 : (before.get(bound) ?? 0))]);
    added.sort(([a], [b]) => a - b);
    const total = added.at(-1)?.[1] ?? 0;
    this.points.push({
      atMs, total, p50Ms: total ? within(added, 0.5) * 1000 : null, p95Ms: total ? within(added, 0.95) * 1000 : null,
    });
    if (this.points.length > SPAN_S) this.points.shift();
  }
}

/** A gauge of /metrics over time; a point without a value where there was none to read. */
export class Readings {
  points = [];

  constructor(name) {
    this.name = name;
  }

  /** Take up a text of /metrics; an empty one if it could not be read. */
  read(text, atMs) {
    const found = text.split("\n").find((line) => line.startsWith(`${this.name} `));
    const value = found === undefined ? NaN : Number(found.slice(this.name.length + 1));
    this.points.push({atMs, value: Number.isFinite(value) ? value : null});
    if (this.points.length > SPAN_S) this.points.shift();
  }
}

/** Return the cumulative buckets of `POST /calls/{callId}`, by their upper bound in seconds. */
function placements(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    if (!line.startsWith("mediaflow_http_request_seconds_bucket{") || !line.includes('method="POST"')) continue;
    if (!/route="\/calls\/[^"/]*"/.test(line) || !/status="20[01]"/.test(line)) continue;
    const bound = /le="([^"]+)"/.exec(line)[1];
    const seconds = bound === "+Inf" ? Infinity : Number(bound);
    found.set(seconds, (found.get(seconds) ?? 0) + Number(line.slice(line.lastIndexOf(" ") + 1)));
  }
  return found;
}

/** Return the q-quantile within cumulative buckets, taking values as spread evenly in each. */
function within(buckets, q) {
  const wanted = q * buckets.at(-1)[1];
  let [below, passed] = [0, 0];
  for (const [bound, total] of buckets) {
    if (total >= wanted) {
      if (bound === Infinity) return below;
      return total === passed ? bound : below + ((bound - below) * (wanted - passed)) / (total - passed);
    }
    [below, passed] = [bound, total];
  }
  return below;
}

/**
 * Return how far the browser's clock is ahead of the balancer's, from the Date of an answer; 0 where that may as well
 * be the way. Events bear the time of Redis, which is taken to be the balancer's.
 */
export function skew(date, askedMs, answeredMs) {
  const theirs = Date.parse(date ?? "") + 500; // whole seconds, rounded down
  const ahead = (askedMs + answeredMs) / 2 - theirs;
  return Math.abs(ahead) > 2000 ? ahead : 0;
}
