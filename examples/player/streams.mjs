/**
 * A player's side of the stream concurrency service: hold a place while something plays.
 *
 * Times are durations from the service's answers, counted by the page's monotonic clock from before the request
 * was sent: the wall clock of a visitor may be off by hours, and a slow answer must only shorten our view.
 *
 * Not guaranteed: that a place is freed at once when the page goes away. A beacon may be lost, and a start that
 * is under way has no id to stop by; the place is then free when its life is over.
 */

const FIRST_RETRY_MS = 1_000;
const START_RETRY_AT_MOST_MS = 30_000;
const ANSWER_WITHIN_MS = 10_000;
const BUSY = ["starting", "waiting", "playing", "lost"];

/**
 * One place of a user. `state` says how it stands, and each change of it is an event "change".
 *
 * | state.name | meaning | more in the state |
 * |---|---|---|
 * | idle       | nothing is asked for | |
 * | starting   | the service is being asked | |
 * | waiting    | it could not be asked, or said "later"; it is asked again | detail, retryInMs |
 * | playing    | play on | answer, trouble (why the last beats failed, or empty) |
 * | lost       | no beat got through in time: pause; it plays on if a beat gets through | detail |
 * | refused    | one too many | refusal: limit, active, conflicts, advice |
 * | ended      | it is over | detail, terminatedBy (null unless another device took over) |
 * | failed     | the service will not have it, and asking again will not help | status, detail |
 */
export class Stream extends EventTarget {
  #streams;
  #device;
  #metadata;
  #token;
  #state = { name: "idle" };
  #url = null; // of the place that is held
  #round = new AbortController(); // of what is under way; each start and stop begins another
  #wake = () => {};
  #beatDueAt = Infinity;
  #lifeTimer = 0;
  #intervalMs = 0;
  #startAgain = false; // when the page comes back from the back/forward cache

  /**
   * @param {object} options
   * @param {string} options.service Where the service is, e.g. "http://127.0.0.1:8090".
   * @param {string} options.user Who plays; any text.
   * @param {string} options.device What it plays on, as the user would call it.
   * @param {object} [options.metadata] What rules look at and conflicts show.
   * @param {() => (string|null|Promise<string|null>)} [options.token] Gives the bearer token, asked for each request.
   */
  constructor({ service, user, device, metadata = {}, token = () => null }) {
    super();
    this.#streams = `${service.replace(/\/+$/, "")}/v1/users/${encodeURIComponent(user)}/streams`;
    this.#device = device;
    this.#metadata = metadata;
    this.#token = token;
  }

  get state() {
    return this.#state;
  }

  /** Whether a place is held or asked for. */
  get busy() {
    return BUSY.includes(this.#state.name);
  }

  /**
   * Ask for a place, and hold it. Does nothing while one is held or asked for.
   *
   * @param {object} [wish]
   * @param {"reject"|"stop_oldest"} [wish.onLimit] What to do if it would be one too many.
   * @param {string[]} [wish.terminate] Codes of conflicts of a refusal: streams to end in the same step.
   */
  start({ onLimit = "reject", terminate = [] } = {}) {
    if (this.busy) return;
    this.#startWith({ deviceId: this.#device, metadata: this.#metadata, onLimit, terminate });
  }

  /** Give the place back. */
  stop() {
    this.#startAgain = false;
    this.#leave();
    this.#become("idle");
  }

  /** Follow a window's life: free the place when the page goes away, take one again when it comes back. */
  follow(page) {
    page.addEventListener("pagehide", () => {
      this.#startAgain = this.busy;
      this.#leave();
      if (this.#startAgain) this.#become("idle");
    });
    page.addEventListener("pageshow", (event) => {
      if (event.persisted && this.#startAgain) this.start();
    });
    // Timers of hidden pages are held back, to one a minute in the end; the life of a place is longer than that.
    page.document.addEventListener("visibilitychange", () => {
      const due = performance.now() >= this.#beatDueAt || this.#state.trouble || this.#state.name === "lost";
      if (!page.document.hidden && due) this.#wake();
    });
    page.addEventListener("online", () => this.#wake());
  }

  #become(name, more = {}) {
    this.#state = { name, ...more };
    this.dispatchEvent(new Event("change"));
  }

  #leave() {
    this.#round.abort();
    clearTimeout(this.#lifeTimer);
    this.#beatDueAt = Infinity;
    const url = this.#url;
    this.#url = null;
    // A beacon outlives the page. It cannot carry a bearer token: the signed id in its address is enough.
    if (url && !navigator.sendBeacon(`${url}/stop`)) {
      fetch(`${url}/stop`, { method: "POST", keepalive: true }).catch(() => {}); // its life ends by itself
    }
  }

  #startWith(body) {
    this.#round = new AbortController();
    this.#begin(body, this.#round.signal).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }

  async #begin(body, signal) {
    const key = randomKey(); // an answer that is lost on its way must not cost a second place
    this.#become("starting");
    for (let failures = 0; ; failures += 1) {
      const reply = await this.#ask(this.#streams, signal, body, { "Idempotency-Key": key });
      if (reply.status === 201 || reply.status === 200) return this.#hold(reply, signal);
      if (reply.status === 409) return this.#become("refused", { refusal: reply.body });
      if (!mayPass(reply.status)) {
        return this.#become("failed", { status: reply.status, detail: reply.detail });
      }
      const retryInMs = reply.retryAfterMs ?? backoff(failures, START_RETRY_AT_MOST_MS);
      this.#become("waiting", { detail: reply.detail, retryInMs });
      await this.#sleep(retryInMs, signal);
    }
  }

  async #hold(reply, signal) {
    let failures = 0;
    let pauseMs = this.#admitted(reply);
    for (;;) {
      this.#beatDueAt = performance.now() + pauseMs;
      await this.#sleep(pauseMs, signal);
      // Without a body and headers of its own this needs no preflight across origins.
      const beat = await this.#ask(this.#url, signal);
      if (beat.status === 200) {
        failures = 0;
        pauseMs = this.#admitted(beat);
      } else if (beat.status === 410) {
        return this.#over(beat);
      } else if (beat.status === 404) {
        return this.#forgotten();
      } else {
        // Whatever else is wrong is no reason to stop before the life is over.
        this.#shake(beat.detail);
        pauseMs = beat.retryAfterMs ?? backoff(failures, this.#intervalMs);
        failures += 1;
      }
    }
  }

  /** Note an answer that lets us play; return when to beat next. */
  #admitted({ body, sentAt }) {
    const restMs = body.ttlMs - (performance.now() - sentAt);
    this.#url = `${this.#streams}/${encodeURIComponent(body.streamId)}`;
    this.#intervalMs = body.heartbeatIntervalMs;
    clearTimeout(this.#lifeTimer);
    this.#lifeTimer = setTimeout(() => {
      this.#become("lost", { detail: this.#state.trouble || "the service did not answer in time" });
    }, Math.max(0, restMs));
    this.#become("playing", { answer: body, trouble: "" });
    return Math.max(0, body.heartbeatIntervalMs - (performance.now() - sentAt));
  }

  #shake(detail) {
    if (this.#state.name === "lost") this.#become("lost", { detail });
    else this.#become("playing", { answer: this.#state.answer, trouble: detail });
  }

  #over({ body, detail }) {
    clearTimeout(this.#lifeTimer);
    this.#url = null;
    this.#beatDueAt = Infinity;
    this.#become("ended", { detail, terminatedBy: body.terminatedBy ?? null });
  }

  /** The service knows nothing of our id, as after it lost its keys: ask for a place like anybody else. */
  #forgotten() {
    clearTimeout(this.#lifeTimer);
    this.#url = null;
    this.#startWith({ deviceId: this.#device, metadata: this.#metadata });
  }

  /** Ask, and return what was answered; a status of 0 means that there was no answer. */
  async #ask(url, signal, body, headers = {}) {
    const sentAt = performance.now();
    const token = await this.#token();
    const request = { method: "POST", cache: "no-store", headers: { ...headers } };
    if (body) {
      request.body = JSON.stringify(body);
      request.headers["Content-Type"] = "application/json";
    }
    if (token) request.headers.Authorization = `Bearer ${token}`;
    try {
      request.signal = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]);
      const response = await fetch(url, request);
      const text = await response.text();
      signal.throwIfAborted();
      const said = parsed(text);
      const detail = said.detail || `the service answered ${response.status}`;
      return { status: response.status, body: said, detail, sentAt, retryAfterMs: retryAfterMs(response) };
    } catch (error) {
      signal.throwIfAborted();
      const detail = error.name === "TimeoutError" ? "the service did not answer in time" : "the service cannot be reached";
      return { status: 0, body: {}, detail, sentAt, retryAfterMs: null };
    }
  }

  /** Sleep, until woken at the latest. */
  #sleep(durationMs, signal) {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        resolve();
      };
      const timer = setTimeout(done, durationMs);
      this.#wake = done;
      signal.addEventListener(
        "abort",
        () => {
          clearTimeout(timer);
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }
}

/** Tell whether asking again, later, may help. */
function mayPass(status) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

function backoff(failures, atMostMs) {
  const fullMs = Math.min(atMostMs, FIRST_RETRY_MS * 2 ** failures);
  return fullMs * (0.5 + Math.random() / 2); // so that players do not come back all at once
}

/** Return the wait that an answer asks for, or null. A date counts from the service's own `Date`. */
function retryAfterMs(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return null;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const waitMs = Date.parse(value) - Date.parse(response.headers.get("Date"));
  return Number.isFinite(waitMs) ? Math.max(0, waitMs) : null;
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is missing on plain http
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
