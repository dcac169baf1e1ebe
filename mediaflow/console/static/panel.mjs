// The panel beside the page: one call, one instance, or the streams of one user; it is asked for anew while open.

import {$, make} from "./dom.mjs";

const EVERY_MS = 1500;

export class Panel {
  #view = null;
  #back = null;
  #soon = () => {};

  /** `views` makes a view by kind: `{kind, title, refresh(signal)}`, with its nodes in `body`. */
  constructor(views) {
    this.views = views;
    this.node = $("panel");
    $("panel-close").addEventListener("click", () => this.leave());
    addEventListener("hashchange", () => this.follow());
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#view && !document.querySelector("dialog[open]")) this.leave();
    });
  }

  /** Show what the address names. */
  follow() {
    const [kind, ...rest] = location.hash.slice(1).split("/");
    let id = "";
    try {
      id = decodeURIComponent(rest.join("/"));
    } catch {
      // An address that somebody mistyped names nothing.
    }
    if (kind in this.views && id) this.#open(kind, id);
    else this.#close();
  }

  open(kind, id) {
    location.hash = `${kind}/${encodeURIComponent(id)}`;
  }

  leave() {
    history.pushState(null, "", location.pathname + location.search);
    this.#close();
  }

  /** Look again soon, if the panel shows this. */
  touch(kind, id) {
    if (this.#view?.key === `${kind}/${id}`) this.#soon();
  }

  get key() {
    return this.#view?.key ?? "";
  }

  #open(kind, id) {
    const key = `${kind}/${id}`;
    if (this.#view?.key === key) return;
    if (!this.#view) this.#back = document.activeElement;
    this.#view?.stop.abort();
    const stop = new AbortController();
    const body = make("div", {class: "view"}, make("p", {class: "quiet"}, "Asking …"));
    const view = {...this.views[kind](id, body), key, stop};
    this.#view = view;
    $("panel-kind").textContent = view.kind;
    $("panel-title").textContent = id;
    $("panel-body").replaceChildren(body);
    this.node.hidden = false;
    document.body.classList.add("with-panel");
    this.node.focus({preventScroll: true});
    void this.#keep(view);
  }

  async #keep(view) {
    while (!view.stop.signal.aborted) {
      const waited = new Promise((resolve) => {
        this.#soon = resolve;
        setTimeout(resolve, EVERY_MS);
      });
      if (!document.hidden) await view.refresh(view.stop.signal);
      await waited;
    }
  }

  #close() {
    if (!this.#view) return;
    this.#view.stop.abort();
    this.#view = null;
    this.node.hidden = true;
    document.body.classList.remove("with-panel");
    this.#back?.focus?.({preventScroll: true});
  }
}

/** Make a table with a head; rows are lists of what goes into their cells. */
export function table(caption, heads, rows) {
  return make("table", {},
    make("caption", {class: "unseen"}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {scope: "col"}, head)))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))))));
}

/** Name and value pairs. */
export function facts(pairs) {
  return make("dl", {class: "facts"}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function wrong(error) {
  return make("p", {class: "wrong"}, error.status === 404 ? error.message : `Not known now: ${error.message}`);
}
