// `/events`, read with fetch so that it may carry a token: reconnects for ever, and goes on behind the last event.

import {Problem} from "./api.mjs";

const SILENCE_MS = 40_000; // the balancer says something each 15 s
const PAUSES_MS = [500, 1000, 2000, 4000];

/** Take server-sent events out of text that comes in pieces. */
export class Parser {
  rest = "";

  /** Return the events that are complete now: `{id, event, data}`; comments are none. */
  take(text) {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop();
    const found = [];
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      if (event.data !== undefined) found.push(event);
    }
    return found;
  }
}

export class Feed {
  /**
   * @param api     what asks.
   * @param from    the id behind which to begin.
   * @param on      `{open(again), events(list), reset(), down(why, inMs)}`; `list` are the bodies of events, in order.
   */
  constructor(api, from, on) {
    this.api = api;
    this.lastId = from;
    this.on = on;
    this.failures = 0;
    this.wake = () => {};
  }

  async run() {
    for (let again = false; ; again = true) {
      const why = await this.#once(again);
      const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
      this.failures += 1;
      this.on.down(why, pause);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  }

  /** Try again now. */
  retry() {
    this.wake();
  }

  async #once(again) {
    const stop = new AbortController();
    let silent = setTimeout(() => stop.abort(), SILENCE_MS);
    try {
      const headers = this.lastId ? {"Last-Event-ID": this.lastId} : {};
      const answer = await this.api.ask("events", {headers, signal: stop.signal, deadlineMs: 0});
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      this.failures = 0;
      this.on.open(again);
      for (;;) {
        const {done, value} = await reader.read();
        if (done) return "the balancer ended the connection";
        clearTimeout(silent);
        silent = setTimeout(() => stop.abort(), SILENCE_MS);
        this.#hand(parser.take(value));
      }
    } catch (error) {
      // An id of another store, or of other partitions: what follows is read from now on.
      if (error instanceof Problem && error.status === 400) this.lastId = "";
      if (error instanceof Problem) return error.message;
      return stop.signal.aborted ? "nothing was heard for too long" : "the connection broke";
    } finally {
      clearTimeout(silent);
      stop.abort();
    }
  }

  #hand(found) {
    let list = [];
    for (const one of found) {
      if (one.event === "reset") {
        if (list.length) this.on.events(list);
        list = [];
        this.on.reset();
        continue;
      }
      if (one.id) this.lastId = one.id;
      list.push(JSON.parse(one.data));
    }
    if (list.length) this.on.events(list);
  }
}
