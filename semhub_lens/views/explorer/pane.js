// One lens on screen: its map with the strip above, the bars beside and the inputs below, and its pins.

import { el } from "./dom.js";
import { search } from "./data.js";
import { THEMES, colourings, faded, painted } from "./colour.js";
import { makeMap } from "./map.js";
import { makeOverview, makeShares } from "./overview.js";
import { makePins } from "./pins.js";

export function makePane(data, store, { prefix = "c", name = "", pin, asking }) {
  const kinds = data.kinds ?? colourings(data);
  const look = { theme: THEMES.light, colours: null, shown: null, found: null, prefix, name, pin, asking };
  const map = makeMap(data, store, look);
  const overview = makeOverview(data, store, look, map);
  look.whole = overview.canvas;
  const pins = data.makePins?.(store, look) ?? makePins(data, store, look);
  const shares = data.mass && data.order.length > 1 ? makeShares(data, map, look) : null;
  const title = name ? [el("div", {}), el("h2", { class: "name" }, el("b", {}, name), " ", el("span", { class: "note" }, data.called ?? "")), el("div", {})] : [];
  const stage = el("div", { class: shares ? "stage" : "stage alone" }, ...title,
    el("div", { class: "corner axis" }, data.row ?? "layer"), el("div", { class: "above" }, overview.node),
    el("div", { class: "corner" }, shares ? (name ? "share" : "share of probability") : ""),
    map.names, map.scroll, shares ? shares.node : el("div"),
    el("div", { class: "corner foot" }, data.column ?? "input"), map.tokens, el("div", { class: "corner foot" }));
  stage.classList.toggle("twoline", Boolean(data.under));
  stage.style.setProperty("--most", `${data.positions * map.WIDEST}px`);
  const kind = () => kinds.find((one) => one.name === store.state.colour) ?? kinds[0];

  function recolour(dark) {
    look.theme = dark ? THEMES.dark : THEMES.light;
    look.colours = painted(data, kind(), look.theme);
  }

  function react(changed, moved) {
    if (stage.hidden) return;
    if (changed.has("find")) look.found = search(data, store.state.find);
    const recoloured = ["find", "colour", "theme"].some((key) => changed.has(key));
    if (recoloured) {
      look.shown = look.found ? faded(look.colours, look.found, look.theme.ground) : look.colours;
      overview.paint();
    }
    const placed = moved || changed.has("pins") || changed.has("at");
    if (placed) map.draw(changed.has("resized"));
    if (moved) overview.place();
    if (moved || changed.has("theme")) shares?.draw(changed.has("resized"));
    if (recoloured || changed.has("pins")) map.redress();
    map.mark();
  }
  return { data, store, look, map, pins, shares, stage, kinds, kind, name, recolour, react };
}
