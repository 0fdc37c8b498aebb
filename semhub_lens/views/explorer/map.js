// The map: layers x tokens. Only what is on screen exists: cells with their text while columns are wide enough to read,
// and a picture of them below that.

import { clamp, el, percent, token } from "./dom.js";
import { cell, language } from "./data.js";
import { css, inkOn, mix } from "./colour.js";

export const READABLE = 30;
const WIDEST = 150;
const USUAL = 84;
const AHEAD = 3;

/** Every how many columns of this width a number has room. */
export const spacing = (step) => [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].find((count) => count * step >= 60) ?? 10000;

export function makeMap(data, store, look) {
  const { layers, positions } = data;
  const height = layers > 60 ? 19 : 24;
  const ring = el("div", { class: "ring", hidden: "" });
  const canvas = el("canvas", { class: "paint", "aria-hidden": "true" });
  const space = el("div", { class: "space", role: "presentation" }, canvas, ring);
  const help = "Arrow keys move, Enter pins the position, slash searches";
  const scroll = el("div", {
    class: "scroll", role: "grid", tabindex: "0", "aria-label": `Most probable token, layers by input tokens. ${help}`,
    "aria-rowcount": layers, "aria-colcount": positions,
  }, space);
  const names = el("div", { class: "layers", "aria-hidden": "true" });
  const strip = el("div", { class: "strip" });
  const tokens = el("div", { class: "tokens", role: "group", "aria-label": "Input tokens; press to pin a position" }, strip);
  const rows = [];
  let shown = { first: 0, last: 0, low: 0, high: 0, width: 0 };

  for (let layer = layers - 1; layer >= 0; layer--) names.append(el("div", {}, data.short[layer]));
  for (const node of [names, space]) node.style.setProperty("--row", `${height}px`);
  space.style.height = `${layers * height}px`;

  // Asking the page for a size makes it lay itself out, so it is asked once a frame.
  let seen = { view: 800, left: 0, width: USUAL };
  const fit = () => seen.view / positions;
  const width = () => seen.width;
  const allowed = (wanted) => clamp(wanted, Math.min(fit(), WIDEST), WIDEST);

  function measure() {
    seen.view = scroll.clientWidth || 800;
    const usual = positions * USUAL <= seen.view ? fit() : USUAL;
    seen = { ...seen, left: scroll.scrollLeft, width: allowed(store.state.width ?? usual) };
  }

  const top = (layer) => (layers - 1 - layer) * height;
  const range = () => ({
    first: clamp(Math.floor(seen.left / width()), 0, positions - 1),
    last: clamp(Math.ceil((seen.left + seen.view) / width() - 0.01), 1, positions),
  });

  function rowsOnScreen() {
    const box = scroll.getBoundingClientRect();
    const high = layers - 1 - Math.floor((-box.top - 6 * height) / height);
    const low = layers - 1 - Math.ceil((innerHeight - box.top + 6 * height) / height);
    return { low: clamp(low, 0, layers - 1), high: clamp(high, 0, layers - 1) };
  }

  /** Whole pixels, so that the gaps between columns are alike. */
  function column(node, pos) {
    const left = Math.round(pos * width());
    node.style.left = `${left}px`;
    node.style.width = `${Math.round((pos + 1) * width()) - left}px`;
  }

  const missed = (i) => Boolean(look.found && !look.found.ranks.has(i));

  /** Of a cell; pale where a search leaves it out. */
  function colour(i) {
    const rgb = [...look.colours.subarray(3 * i, 3 * i + 3)];
    return missed(i) ? mix(look.theme.ground, rgb, 0.2) : rgb;
  }

  function makeCell(layer, pos) {
    const i = layer * positions + pos;
    const node = el("div", { class: "cell", role: "gridcell", id: `${look.prefix}${layer}-${pos}`, "aria-colindex": pos + 1 });
    node.append(...words(layer, pos).map((text, part) => token(text, part && "was")));
    column(node, pos);
    dress(node, i);
    return node;
  }

  /** What a cell says: its most probable token; of a difference also the other lens's, where that is another. */
  function words(layer, pos) {
    const [first] = cell(data, layer, pos);
    return data.words?.(layer, pos) ?? (first ? [first.text] : []);
  }

  function dress(node, i) {
    const [r, g, b] = colour(i);
    node.style.background = css([r, g, b]);
    node.style.color = missed(i) ? "" : inkOn(r, g, b);
    node.classList.toggle("hit", Boolean(look.found?.ranks.has(i)));
    node.classList.toggle("miss", missed(i));
    node.classList.toggle("pinned", store.state.pins.includes(i % positions));
    node.setAttribute("aria-selected", String(store.state.pins.includes(i % positions)));
  }

  /** Bring the cells in line with what is on screen; all of them anew where `fresh`. */
  function sync(fresh) {
    const wide = width() >= READABLE;
    const { first, last } = range();
    const at = store.state.at;
    const next = { ...rowsOnScreen(), width: width(), first: Math.max(0, first - AHEAD), last: Math.min(positions, last + AHEAD) };
    if (!wide) Object.assign(next, at ? { first: at.pos, last: at.pos + 1, low: at.layer, high: at.layer } : { first: 0, last: 0 });
    const same = !fresh && next.low === shown.low && next.high === shown.high && next.width === shown.width;
    if (!same) {
      for (const row of rows.splice(0)) row.remove();
      for (let layer = next.high; layer >= next.low; layer--) {
        const row = el("div", { class: "row", role: "row", "aria-rowindex": layers - layer, "aria-label": data.names[layer] });
        row.style.top = `${top(layer)}px`;
        rows.push(row);
      }
      space.append(...rows);
    }
    rows.forEach((row, number) => {
      const layer = next.high - number;
      for (const node of [...row.children]) {
        const pos = Number(node.getAttribute("aria-colindex")) - 1;
        if (pos < next.first || pos >= next.last) node.remove();
      }
      for (let pos = next.first; pos < next.last; pos++)
        if (same && pos >= shown.first && pos < shown.last) continue;
        else row.append(makeCell(layer, pos));
    });
    space.classList.toggle("small", !wide);
    shown = next;
    if (!wide) paint();
  }

  /** The cells on screen as a picture. */
  function paint() {
    const ratio = devicePixelRatio || 1;
    const { first, last } = range();
    const [w, h] = [seen.view, layers * height];
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    canvas.style.width = `${w}px`;
    canvas.style.height = `${h}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const step = width();
    const gap = step > 6 ? 1 : 0;
    for (let layer = 0; layer < layers; layer++)
      for (let pos = first; pos < last; pos++) {
        const i = layer * positions + pos;
        const x = pos * step - seen.left;
        pen.fillStyle = css(colour(i));
        pen.fillRect(x, top(layer), step - gap + (gap ? 0 : 0.6), height - 1);
      }
  }

  function syncTokens() {
    const { first, last } = range();
    const step = width();
    strip.textContent = "";
    strip.style.transform = `translateX(${-seen.left}px)`;
    if (step < READABLE) {
      marks(step);
      return;
    }
    for (let pos = Math.max(0, first - 1); pos < Math.min(positions, last + 1); pos++) {
      const pinned = store.state.pins.includes(pos);
      const node = el("button", {
        type: "button", class: "input", "data-pos": pos, "aria-pressed": String(pinned), title: `position ${pos}`,
        "aria-label": `position ${pos}, ${data.labels[pos]}`, tabindex: "-1", onclick: () => look.pin(pos),
      }, token(data.labels[pos]), ...(data.under?.[pos] ? [token(data.under[pos], "under")] : []));
      column(node, pos);
      strip.append(node);
    }
  }

  /** Where columns are too narrow for tokens: numbers of positions, and the pins. */
  function marks(step) {
    const every = spacing(step);
    for (let pos = 0; pos < positions; pos += every) strip.append(placed("mark", pos, step, String(pos)));
    for (const pos of store.state.pins) strip.append(placed("pinmark", pos, step, "▲"));
  }

  function placed(name, pos, step, text) {
    const node = el("span", { class: name }, text);
    node.style.left = `${Math.max((pos + 0.5) * step, 4 * text.length)}px`;
    return node;
  }

  function mark() {
    const at = store.state.hover ?? store.state.at;
    ring.hidden = !at;
    if (at) {
      Object.assign(ring.style, {
        left: `${at.pos * width()}px`, top: `${top(at.layer)}px`, width: `${Math.max(width(), 3)}px`, height: `${height}px`,
      });
      ring.classList.toggle("kept", !store.state.hover);
    }
    const active = store.state.at && space.querySelector(`#${look.prefix}${store.state.at.layer}-${store.state.at.pos}`);
    if (active) scroll.setAttribute("aria-activedescendant", active.id);
    else scroll.removeAttribute("aria-activedescendant");
    active?.setAttribute("aria-label", sentence(store.state.at));
  }

  function sentence({ layer, pos }) {
    const [first] = cell(data, layer, pos);
    const where = `${data.names[layer]}, position ${pos}, after ${data.labels[pos]}`;
    if (!first) return where;
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
    space.style.width = `${positions * width()}px`;
    sync(fresh);
    syncTokens();
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
    for (const node of space.querySelectorAll(".cell")) {
      const [layer, pos] = node.id.slice(look.prefix.length).split("-").map(Number);
      dress(node, layer * positions + pos);
    }
    if (width() < READABLE) paint();
  };
  const at = () => ({ start: seen.left / width(), span: seen.view / width() });
  return { at, scroll, names, tokens, words, colour, draw, redress, mark, reveal, zoom, under, box, range, fit, width, scrollTo, follow, sentence, height, WIDEST };
}
