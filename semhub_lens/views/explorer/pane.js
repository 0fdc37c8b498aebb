// One lens on screen: its map with the strip above, the bars beside and the inputs below, and its pins.

import { el } from "./dom.js";
import { bestRanks, search } from "./data.js";
import { THEMES, colourings, faded, painted } from "./colour.js";
import { makeMap } from "./map.js";
import { makeOverview, makeShares } from "./overview.js";
import { makePins } from "./pins.js";
import { makeReadings } from "./reading.js";

export function makePane(data, store, { prefix = "c", name = "", pin, pinLayer, asking }) {
  const look = { theme: THEMES.light, colours: null, shown: null, found: null, prefix, name, pin, asking };
  const kinds = data.kinds ?? colourings(data, look);
  const map = makeMap(data, store, look);
  const overview = makeOverview(data, store, look, map);
  look.whole = overview.canvas;
  const pins = data.makePins?.(store, look) ?? makePins(data, store, look);
  const reads = data.top && pinLayer ? makeReadings(data, store, look, pinLayer) : null;
  const shares = data.mass && data.order.length > 1 ? makeShares(data, map, look) : null;
  const title = name ? [el("div", {}), el("h2", { class: "name" }, el("b", {}, name), " ", el("span", { class: "note" }, data.called ?? "")), el("div", {})] : [];
  const axis = el("div", { class: "corner axis" }, data.row ?? "layer");
  const stage = el("div", { class: shares ? "stage" : "stage alone" }, ...title,
    axis, el("div", { class: "above" }, overview.node),
    el("div", { class: "corner" }, shares ? (name ? "share" : "share of probability") : ""),
    map.names, map.scroll, shares ? shares.node : el("div"),
    el("div", { class: "corner foot" }, data.column ?? "input"), map.tokens, el("div", { class: "corner foot" }));
  stage.classList.toggle("twoline", Boolean(data.under));
  stage.classList.toggle("numbers", Boolean(data.rows));
  stage.classList.toggle("pinnable", Boolean(reads) && !data.media);
  if (reads && !data.media)
    map.names.addEventListener("click", ({ target }) => target !== map.names && pinLayer(data.layers - 1 - [...map.names.children].indexOf(target)));
  stage.style.setProperty("--most", `${data.positions * map.WIDEST}px`);
  const kind = () => kinds.find((one) => one.name === store.state.colour) ?? kinds[0];

  function recolour(dark) {
    look.theme = dark ? THEMES.dark : THEMES.light;
    look.colours = painted(data, kind(), look.theme);
  }

  function refind() {
    look.found = search(data, store.state.find);
    if (kind().name === "found") look.colours = painted(data, kind(), look.theme);
    const best = look.found ? bestRanks(data, look.found) : [];
    [...map.names.children].forEach((row, i) => {
      const rank = best[data.layers - 1 - i] ?? null;
      row.toggleAttribute("data-rank", rank !== null);
      if (rank !== null) row.dataset.rank = rank + 1;
    });
    axis.textContent = look.found?.cells.length ? "rank · layer" : (data.row ?? "layer");
  }

  function react(changed, moved) {
    if (stage.hidden) return;
    if (changed.has("find")) refind();
    const recoloured = ["find", "colour", "theme"].some((key) => changed.has(key));
    if (recoloured) {
      look.shown = look.found && kind().name !== "found" ? faded(look.colours, look.found, look.theme.ground) : look.colours;
      overview.paint();
    }
    if (reads && (recoloured || changed.has("rows"))) {
      reads.draw();
      [...map.names.children].forEach((row, i) => row.classList.toggle("held", store.state.rows.includes(data.layers - 1 - i)));
    }
    const placed = moved || changed.has("pins") || changed.has("at");
    if (placed) map.draw(changed.has("resized"));
    if (moved) overview.place();
    if (moved || changed.has("theme")) shares?.draw(changed.has("resized"));
    if (recoloured || changed.has("pins")) map.redress();
    map.mark();
  }
  return { data, store, look, map, pins, reads, shares, stage, kinds, kind, name, recolour, react };
}
