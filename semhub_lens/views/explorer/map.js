// The map: layers x tokens. Only what is on screen exists: cells with their text while columns are wide enough to read,
// and a picture of them below that.

import { clamp, el, percent, token } from "./dom.js";
import { cell, facts, language } from "./data.js";
import { css, inkOn } from "./colour.js";
import { makeStrip } from "./strip.js";

export const READABLE = 30;
const WIDEST = 150;
const USUAL = 84;
/** The whole text is shown at first where its columns are at least so wide. */
const ENOUGH = 70;
const AHEAD = 3;
const BESIDE = 11;

export function makeMap(data, store, look) {
  const { layers, positions } = data;
  const height = layers > 60 ? 19 : 24;
  const ring = el("div", { class: "ring", hidden: "" });
  const canvas = el("canvas", { class: "paint", "aria-hidden": "true" });
  const space = el("div", { class: "space", role: "presentation" }, canvas, ring);
  const help = `Arrow keys move, Enter pins the ${data.rows ? "column" : "position, slash searches"}`;
  const what = data.rows ? `${data.title}, ${data.row}s by ${data.column}s` : "Most probable token, layers by input tokens";
  const scroll = el("div", {
    class: "scroll", role: "grid", tabindex: "0", "aria-label": `${what}. ${help}`,
    "aria-rowcount": layers, "aria-colcount": positions,
  }, space);
  const names = el("div", { class: "layers", "aria-hidden": "true" });
  const strip = makeStrip(data, store, look, column);
  const rows = new Map();
  const wide = new Map();
  const ruler = document.createElement("canvas").getContext("2d");
  let named = null;
  let drawn = 0;

  for (let layer = layers - 1; layer >= 0; layer--) names.append(el("div", {}, data.short[layer]));
  for (const node of [names, space]) node.style.setProperty("--row", `${height}px`);
  space.style.height = `${layers * height}px`;

  // Asking the page for a size makes it lay itself out, so it is asked once a frame, before anything is changed.
  let seen = { view: 800, left: 0, width: USUAL, low: 0, high: layers - 1 };
  const fit = () => seen.view / positions;
  const width = () => seen.width;
  const allowed = (wanted) => clamp(wanted, Math.min(fit(), WIDEST), WIDEST);

  function measure() {
    seen.view = scroll.clientWidth || 800;
    const usual = positions * ENOUGH <= seen.view ? fit() : USUAL;
    const box = scroll.getBoundingClientRect();
    const low = layers - 1 - Math.ceil((innerHeight - box.top + 6 * height) / height);
    const high = layers - 1 - Math.floor((-box.top - 6 * height) / height);
    seen = {
      view: seen.view, left: scroll.scrollLeft, width: allowed(store.state.width ?? usual),
      low: look.paper ? 0 : clamp(low, 0, layers - 1), high: look.paper ? layers - 1 : clamp(high, 0, layers - 1),
    };
  }

  const top = (layer) => (layers - 1 - layer) * height;
  const range = () => ({
    first: clamp(Math.floor(seen.left / width()), 0, positions - 1),
    last: clamp(Math.ceil((seen.left + seen.view) / width() - 0.01), 1, positions),
  });

  /** Whole pixels, so that the gaps between columns are alike. */
  function column(node, pos) {
    const left = Math.round(pos * width());
    node.style.left = `${left}px`;
    node.style.width = `${Math.round((pos + 1) * width()) - left - 1}px`;
  }

  const missed = (i) => Boolean(look.found && !look.found.ranks.has(i));

  /** Of a cell; pale where a search leaves it out. */
  const colour = (i) => [look.shown[3 * i], look.shown[3 * i + 1], look.shown[3 * i + 2]];

  /** Cutting a text off costs the browser more than the text itself, so only those are cut that may not fit. */
  function fits(text) {
    if (!wide.has(text)) wide.set(text, /\p{M}/u.test(text) ? Infinity : ruler.measureText(text).width);
    return wide.get(text) <= width() - BESIDE;
  }

  function makeCell(layer, pos) {
    const texts = words(layer, pos);
    const cut = texts.length < 2 && fits(texts[0] ?? "") ? "" : " cut";
    const node = el("div", {
      class: `cell${texts.length > 1 ? " two" : ""}${cut}`, role: "gridcell", id: `${look.prefix}${layer}-${pos}`, "aria-colindex": pos + 1,
    }, ...texts.map((text, part) => token(text, part && "was")));
    column(node, pos);
    dress(node, layer, pos);
    return node;
  }

  /** What a cell says: its most probable token; of a difference also the other lens's, where that is another. */
  function words(layer, pos) {
    if (data.words) return data.words(layer, pos);
    return data.top ? [data.texts[data.top[(layer * positions + pos) * data.k]]] : [];
  }

  function dress(node, layer, pos) {
    const i = layer * positions + pos;
    const [r, g, b] = colour(i);
    const pinned = store.state.pins.includes(pos);
    node.style.backgroundColor = css([r, g, b]);
    node.style.color = missed(i) ? "" : inkOn(r, g, b);
    node.classList.toggle("hit", Boolean(look.found) && !missed(i));
    node.classList.toggle("miss", missed(i));
    if (node.getAttribute("aria-selected") === String(pinned)) return;
    node.classList.toggle("pinned", pinned);
    node.setAttribute("aria-selected", String(pinned));
  }

  const cellAt = ({ layer, pos }) => rows.get(layer)?.cells.get(pos);

  /** Bring the cells in line with what is on screen; all of them anew where `fresh`. */
  function sync(fresh) {
    const readable = width() >= READABLE;
    const { first, last } = range();
    const { at } = store.state;
    let next = { low: seen.low, high: seen.high, first: Math.max(0, first - AHEAD), last: Math.min(positions, last + AHEAD) };
    if (!readable) next = at ? { ...next, first: at.pos, last: at.pos + 1, low: at.layer, high: at.layer } : { ...next, first: 0, last: 0 };
    if (fresh || drawn !== width()) drop(() => true);
    else drop((layer) => layer < next.low || layer > next.high);
    for (let layer = next.high; layer >= next.low; layer--) if (!rows.has(layer)) addRow(layer);
    for (const [layer, { row, cells }] of rows) {
      for (const [pos, node] of cells) {
        if (pos >= next.first && pos < next.last) continue;
        node.remove();
        cells.delete(pos);
      }
      for (let pos = next.last - 1; pos >= next.first; pos--) {
        if (cells.has(pos)) continue;
        const made = makeCell(layer, pos);
        row.insertBefore(made, cells.get(pos + 1) ?? null);
        cells.set(pos, made);
      }
    }
    space.classList.toggle("small", !readable);
    drawn = width();
    if (!readable) paint();
  }

  function addRow(layer) {
    const row = el("div", { class: "row", role: "row", "aria-rowindex": layers - layer, "aria-label": data.names[layer] });
    row.style.top = `${top(layer)}px`;
    rows.set(layer, { row, cells: new Map() });
    space.insertBefore(row, rows.get(layer - 1)?.row ?? null);
  }

  function drop(gone) {
    for (const [layer, { row }] of rows)
      if (gone(layer)) {
        row.remove();
        rows.delete(layer);
      }
  }

  /** The cells on screen as a picture: the whole one, as far as it is on screen, enlarged. */
  function paint() {
    const ratio = devicePixelRatio || 1;
    const { first, last } = range();
    const [w, h] = [seen.view, layers * height];
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    canvas.style.width = `${w}px`;
    canvas.style.height = `${h}px`;
    const pen = canvas.getContext("2d");
    const step = width();
    const x = (pos) => pos * step - seen.left;
    pen.scale(ratio, ratio);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(look.whole, first, 0, last - first, layers, x(first), 0, (last - first) * step, h);
    for (let layer = 0; layer < layers; layer++) pen.clearRect(0, top(layer) + height - 1, w, 1);
    if (step > 6) for (let pos = first; pos < last; pos++) pen.clearRect(x(pos + 1) - 1, 0, 1, h);
  }

  /** The ring is where the pointer is, else where the keyboard is; of that cell a screen reader says all. */
  function mark() {
    const at = store.state.hover ?? store.state.at;
    ring.hidden = !at;
    if (at) {
      Object.assign(ring.style, {
        left: `${at.pos * width()}px`, top: `${top(at.layer)}px`, width: `${Math.max(width(), 3)}px`, height: `${height}px`,
      });
      ring.classList.toggle("kept", !store.state.hover);
    }
    const active = store.state.at && cellAt(store.state.at);
    if (named && named !== active) named.removeAttribute("aria-label");
    named = active ?? null;
    if (active) scroll.setAttribute("aria-activedescendant", active.id);
    else scroll.removeAttribute("aria-activedescendant");
    active?.setAttribute("aria-label", sentence(store.state.at));
  }

  function sentence({ layer, pos }) {
    const [first] = cell(data, layer, pos);
    const where = data.where?.(layer, pos).textContent ?? `${data.names[layer]}, ${data.place(pos)}, after ${data.labels[pos]}`;
    if (!first) return [...facts(data, layer, pos), where].join("; ");
    if (data.ids[first.entry] < 0) return where;
    return `${words(layer, pos).join(" was ")} ${data.prob ? percent(first.p) : ""} ${language(data, first.entry)}; ${where}`;
  }

  function reveal({ layer, pos }) {
    const left = pos * width();
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (left + width() > scroll.scrollLeft + seen.view) scroll.scrollLeft = left + width() - seen.view;
    names.children[layers - 1 - layer].scrollIntoView({ block: "nearest" });
  }

  function draw(fresh) {
    measure();
    if (fresh) {
      wide.clear();
      ruler.font = `12px ${getComputedStyle(scroll).getPropertyValue("--mono")}`;
    }
    const { first, last } = range();
    space.style.width = `${positions * width()}px`;
    sync(fresh);
    strip.draw({ first: Math.max(0, first - 1), last: Math.min(positions, last + 1) }, width(), seen.left, width() >= READABLE);
    mark();
  }

  /** Change the columns' width, and keep what is in the middle there. */
  function zoom(next, pivot = seen.view / 2) {
    const kept = (scroll.scrollLeft + pivot) / width();
    store.state.width = seen.width = allowed(next);
    space.style.width = `${positions * width()}px`;
    scroll.scrollLeft = kept * width() - pivot;
    store.touch("zoomed");
  }

  function under(event) {
    const box = space.getBoundingClientRect();
    const pos = Math.floor((event.clientX - box.left) / width());
    const layer = layers - 1 - Math.floor((event.clientY - box.top) / height);
    return pos >= 0 && pos < positions && layer >= 0 && layer < layers ? { layer, pos } : null;
  }

  function box({ layer, pos }) {
    const whole = space.getBoundingClientRect();
    const left = whole.left + pos * width();
    return { left, right: left + width(), top: whole.top + top(layer), bottom: whole.top + top(layer) + height };
  }

  scroll.addEventListener("scroll", () => {
    store.state.first = scroll.scrollLeft / width();
    look.moved?.(scroll.scrollLeft);
    store.touch("scrolled");
  });
  scroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(width() * 1.0015 ** -event.deltaY, event.clientX - scroll.getBoundingClientRect().left);
  }, { passive: false });

  const scrollTo = (first) => (scroll.scrollLeft = first * width());
  const follow = (left) => Math.abs(scroll.scrollLeft - left) > 1 && (scroll.scrollLeft = left);
  const redress = () => {
    for (const [layer, { cells }] of rows) for (const [pos, node] of cells) dress(node, layer, pos);
    if (width() < READABLE) paint();
  };
  const at = () => ({ start: seen.left / width(), span: seen.view / width() });
  return { at, scroll, names, tokens: strip.node, words, colour, draw, redress, mark, reveal, zoom, under, box, range, fit, width, scrollTo, follow, sentence, top, height, WIDEST };
}
