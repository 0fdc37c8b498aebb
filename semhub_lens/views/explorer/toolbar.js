// What stands above the map: colours, width, search, and the legend in words.

import { el, percent } from "./dom.js";
import { css, stops } from "./colour.js";

const SAVED = { CSV: "all numbers as a table", PNG: "the part on screen as a picture", SVG: "the part on screen as a drawing" };

/** `acts` says what the controls do; `panes` and `kinds` change with what is shown. */
export function makeToolbar(store, acts) {
  const colours = el("div", { class: "segmented colours", role: "radiogroup", "aria-label": "Colour by", onkeydown: roving });
  const size = el("input", { type: "range", min: "0", max: "100", class: "zoom", "aria-label": "Width of a column", oninput: () => acts.zoom(size.value / 100) });
  const whole = el("button", { type: "button", class: "whole-text", onclick: () => acts.zoom(0) }, "whole text");
  const box = el("input", {
    type: "search", class: "find", placeholder: "find word or id", "aria-label": "Find a word or token id",
    oninput: () => store.set({ find: box.value }), onkeydown: (event) => event.key === "Enter" && acts.step(event.shiftKey ? -1 : 1),
  });
  const count = el("output", { class: "count" });
  const to = (by, name, sign) => el("button", { type: "button", class: "step", "aria-label": name, onclick: () => acts.step(by) }, sign);
  const saves = ["CSV", "PNG", "SVG"].map((kind) =>
    el("button", { type: "button", title: SAVED[kind], onclick: () => acts.save(kind.toLowerCase()) }, kind));
  const node = el("div", { class: "toolbar" }, ...(acts.sides ? [sides()] : []), colours,
    el("span", { class: "group" }, size, whole),
    acts.sheets ?? "", el("span", { class: "group finding", ...(acts.plain ? { hidden: "" } : {}) }, box, to(-1, "previous", "‹"), to(1, "next", "›"), count), el("span", { class: "group saves", role: "group", "aria-label": "Save" }, ...saves, ...(acts.code ? [acts.code.button, acts.code.told] : [])));
  const legend = el("div", { class: "legend" });

  function sides() {
    const one = (name, text) => el("button", { type: "button", "data-show": name, onclick: () => store.set({ show: name }) }, text);
    return el("div", { class: "segmented sides", role: "group", "aria-label": "Show" }, one("both", "side by side"), one("difference", "difference"));
  }

  /** Arrow keys choose among the colours, as in any group of radio buttons. */
  function roving(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const { kinds, kind } = acts.front();
    const next = kinds[(kinds.indexOf(kind()) + by + kinds.length) % kinds.length];
    store.set({ colour: next.name });
    [...colours.children].find((button) => button.dataset.colour === next.name).focus();
  }

  function draw() {
    const { kinds, kind } = acts.front();
    if (kinds.some((one, i) => colours.children[i]?.dataset.colour !== one.name) || kinds.length !== colours.children.length)
      colours.replaceChildren(...kinds.map((one) => el("button", {
        type: "button", role: "radio", "data-colour": one.name, onclick: () => store.set({ colour: one.name }),
      }, one.label)));
    for (const button of colours.children) {
      const on = button.dataset.colour === kind().name;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    for (const button of node.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", String(button.dataset.show === store.state.show));
    drawLegend(acts.front());
  }

  function drawLegend(pane) {
    const one = pane.kind();
    const parts = [el("span", { class: "words" }, one.words)];
    if (one.scale) parts.push(scale(one, pane.look.theme));
    if (one.name === "language" || one.chips || pane.shares) parts.push(...(one.scale ? ["Bars:"] : []), ...chips(pane));
    legend.replaceChildren(...parts);
  }

  function chips({ data, look }) {
    const chip = (colour, name) => {
      const swatch = el("i", { class: "chip" });
      swatch.style.background = css(colour);
      return el("span", { class: "entry" }, swatch, name);
    };
    const named = look.theme.hues.length;
    const titled = (some) => [...data.places].filter(([, place]) => some(place)).sort((a, b) => a[1] - b[1]);
    const found = titled((place) => place < named).map(([name, place]) => chip(look.theme.hues[place], acts.title(name)));
    const rest = titled((place) => place >= named).map(([name]) => acts.title(name));
    if (rest.length) found.push(chip(look.theme.other, rest.length > 3 ? `${rest.length} others` : rest.join(", ")));
    return [...found, chip(look.theme.grey, "unknown or shared")];
  }

  function scale(one, theme) {
    const strip = el("i", { class: "ramp" });
    strip.style.background = `linear-gradient(to right, ${(one.stops?.(theme) ?? stops(one, theme)).join(", ")})`;
    if (!one.scale.ticks) return el("span", { class: "entry" }, one.scale.from, strip, one.scale.to);
    const ticks = one.scale.ticks.map((p) => {
      const tick = el("span", { class: "tick" }, percent(p).replace(/\.0+ /, " "));
      tick.style.left = `${100 * Math.sqrt(p)}%`;
      return tick;
    });
    return el("span", { class: "entry ticked" }, el("span", { class: "rampbox" }, strip, ...ticks));
  }

  /** Which widths there are, and the one now. */
  function sized(map) {
    whole.disabled = map.width() <= map.fit() * 1.001;
    size.disabled = map.fit() >= map.WIDEST;
    if (!size.disabled) size.value = (100 * Math.log(map.width() / map.fit())) / Math.log(map.WIDEST / map.fit());
  }
  return { node, legend, box, count, draw, sized };
}
