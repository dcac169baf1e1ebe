// The search field: calls that run are found by a part of their id, any call by its whole id, users by theirs.

import {$, make} from "./dom.mjs";

const MOST = 8;
const CALL_ID = /^[A-Za-z0-9._~:@+-]{1,128}$/;

/** Make the field work; `search(text, most)` finds running calls, `open(kind, id)` opens one. */
export function searchField(search, open) {
  const [field, list] = [$("query"), $("found")];
  let options = [];
  let chosen = -1;

  function show() {
    const text = field.value.trim();
    options = text ? candidates(text) : [];
    chosen = options.length ? 0 : -1;
    list.replaceChildren(...options.map(({kind, id, label}, index) => make("li", {
      role: "option", id: `found-${index}`,
      pointerdown: (event) => {
        event.preventDefault();
        go(index);
      },
    }, make("span", {class: "quiet"}, label), " ", make("b", {class: "mono"}, id), kind === "user" ? "" : "")));
    choose(chosen);
    toggle(options.length > 0);
  }

  function candidates(text) {
    const calls = search(text, MOST).map((id) => ({kind: "call", id, label: "Call"}));
    if (CALL_ID.test(text) && !calls.some(({id}) => id === text)) calls.push({kind: "call", id: text, label: "Any call"});
    return [...calls, {kind: "user", id: text, label: "Streams of user"}];
  }

  function choose(index) {
    chosen = index;
    [...list.children].forEach((node, at) => node.setAttribute("aria-selected", String(at === index)));
    if (index >= 0) field.setAttribute("aria-activedescendant", `found-${index}`);
    else field.removeAttribute("aria-activedescendant");
  }

  function toggle(open_) {
    list.hidden = !open_;
    field.setAttribute("aria-expanded", String(open_));
  }

  function go(index) {
    const option = options[index];
    if (!option) return;
    toggle(false);
    field.value = "";
    field.blur();
    open(option.kind, option.id);
  }

  field.addEventListener("input", show);
  field.addEventListener("focus", show);
  field.addEventListener("blur", () => toggle(false));
  field.addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step && options.length) {
      event.preventDefault();
      choose((chosen + step + options.length) % options.length);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (list.hidden) field.blur();
      else toggle(false);
    }
  });
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    show();
    go(Math.max(0, chosen));
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
  });
}
