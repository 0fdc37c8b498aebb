// The input tokens below the map, or numbers of positions where columns are too narrow for words.

import { el, token } from "./dom.js";

/** Every how many columns of this width a number has room. */
export const spacing = (step) => [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].find((count) => count * step >= 60) ?? 10000;

/** `column` puts a node where its position is. */
export function makeStrip(data, store, look, column) {
  const strip = el("div", { class: "strip" });
  const node = el("div", { class: "tokens", role: "group", "aria-label": data.rows ? `Columns: ${data.column}; press to pin one` : "Input tokens; press to pin a position" }, strip);
  const buttons = new Map();
  let step = 0;

  function button(pos) {
    return el("button", {
      type: "button", class: "input", "data-pos": pos, title: data.place(pos) || null,
      "aria-label": [data.place(pos), data.labels[pos]].filter(Boolean).join(", "), tabindex: "-1", onclick: () => look.pin(pos),
    }, token(data.labels[pos]), ...(data.under?.[pos] ? [token(data.under[pos], "under")] : []));
  }

  /** Bring it in line with the map: columns first..last (not included) of this width, `left` pixels scrolled. */
  function draw({ first, last }, width, left, readable) {
    strip.style.transform = `translateX(${-left}px)`;
    if (!readable || step !== width) {
      buttons.clear();
      strip.replaceChildren(...(readable ? [] : marks(width)));
    }
    step = readable ? width : 0;
    if (!readable) return;
    for (const [pos, gone] of buttons)
      if (pos < first || pos >= last) {
        gone.remove();
        buttons.delete(pos);
      }
    for (let pos = last - 1; pos >= first; pos--) {
      if (!buttons.has(pos)) {
        const made = button(pos);
        column(made, pos);
        buttons.set(pos, made);
        strip.insertBefore(made, buttons.get(pos + 1) ?? null);
      }
      const pinned = String(store.state.pins.includes(pos));
      if (buttons.get(pos).getAttribute("aria-pressed") !== pinned) buttons.get(pos).setAttribute("aria-pressed", pinned);
    }
  }

  /** Numbers of positions, and the pins. */
  function marks(width) {
    const every = spacing(width);
    const numbers = Array.from({ length: Math.ceil(data.positions / every) }, (_, i) => placed("mark", i * every, width, String(i * every)));
    return [...numbers, ...store.state.pins.map((pos) => placed("pinmark", pos, width, "▲"))];
  }

  function placed(name, pos, width, text) {
    const mark = el("span", { class: name }, text);
    mark.style.left = `${Math.max((pos + 0.5) * width, 4 * text.length)}px`;
    return mark;
  }
  return { node, draw };
}
