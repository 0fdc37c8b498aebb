// Pinned positions: how probable each token is that was stored there at any layer, through the layers, by id.

import { el, percent, svg, token } from "./dom.js";
import { language, trajectories } from "./data.js";
import { makeWritten } from "./written.js";

const [WIDE, TALL, LEFT, TOP, BOTTOM] = [460, 220, 46, 10, 26];
const LABELLED = 6;
/** A log scale ends at this power of ten. */
const LOWEST = -12;
/** Their colours are those of the page's style, which knows light and dark. */
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 3", "4 4"];

export function makePins(data, store, look) {
  const node = el("section", { class: "pins", "aria-label": "Pinned positions" });
  const cards = new Map();
  const scale = el("button", { type: "button", class: "scale", onclick: () => store.set({ log: !store.state.log }) }, "log scale");
  const bar = el("div", { class: "pinbar" }, el("h2", {}, look.name ? `${look.name}: pinned positions` : "Pinned positions"), scale,
    el("button", { type: "button", onclick: () => store.set({ pins: [] }) }, "unpin all"));

  function draw() {
    const wanted = store.state.pins;
    const { log, find } = store.state;
    for (const [key, card] of cards) if (card.log !== log || card.find !== find || !wanted.includes(key)) cards.delete(key);
    for (const pos of wanted) if (!cards.has(pos)) cards.set(pos, { log, find, ...card(pos) });
    scale.setAttribute("aria-pressed", String(log));
    node.replaceChildren(...(wanted.length ? [bar, ...wanted.map((pos) => cards.get(pos).node)] : []));
  }

  function card(pos) {
    const close = el("button", { type: "button", class: "close", "aria-label": `unpin ${data.place(pos)}`, onclick: () => look.pin(pos) }, "×");
    const side = look.name ? el("b", { class: "side" }, look.name) : "";
    if (data.at(pos) === null) return { refresh() {}, node: el("figure", { class: "pin", "data-pos": pos }, el("figcaption", {}, side, data.place(pos), close)) };
    const title = el("figcaption", {}, side, `${data.place(pos)} · after `, token(data.labels[pos]), close);
    const curves = trajectories(data, pos);
    const named = curves.slice(0, LABELLED);
    const low = lowest(curves);
    const typed = (look.found?.words ?? []).map((one) => group(one, pos)).filter(({ curve }) => curve.some((p) => p >= 0));
    const chart = plot(curves, named, typed, low, store.state.log);
    const items = [...typed, ...named].map((one) => legendLine(one, named.indexOf(one), chart, data));
    const more = curves.length - named.length;
    const note = more > 0 ? `thin lines: ${more} other tokens among the ${data.k} most probable at some layer` : "";
    const written = makeWritten(data, pos, look.name, store, look.asking);
    const whole = data.curves ? "The curve of a token that leads at some layer is whole; any other" : "A curve";
    const words = el("p", { class: "note" }, note, note ? ". " : "", `${whole} stops where its token is not among the ${data.k} most probable.`);
    return { refresh: written.refresh, node: el("figure", { class: "pin", "data-pos": pos }, title, chart, el("ul", {}, ...items), words, written.node) };
  }

  /** A typed word as one curve: the probabilities of its tokens together, where they are known. */
  function group({ word, entries, p }, pos) {
    const curve = Array.from({ length: data.layers }, (_, layer) => p[layer * data.positions + pos]);
    return { id: `typed ${word}`, text: `${word} (${entries.size} token${entries.size === 1 ? "" : "s"})`, curve, peak: Math.max(...curve.filter((p) => p >= 0)) };
  }

  const lowest = (curves) => {
    const all = curves.flatMap((one) => one.curve).filter((p) => p > 0);
    return all.length ? Math.max(LOWEST, Math.floor(Math.log10(Math.min(...all)))) : -1;
  };

  function plot(curves, named, typed, low, log) {
    const last = Math.max(1, data.layers - 1);
    const x = (layer) => LEFT + (layer / last) * (WIDE - LEFT - 12);
    const share = (p) => (log ? 1 - Math.log10(Math.max(p, 10 ** low)) / low : p);
    const y = (p) => TALL - BOTTOM - share(p) * (TALL - TOP - BOTTOM);
    const chart = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": "Probability through the layers" });
    const ticks = log ? decades(low) : [0, 0.25, 0.5, 0.75, 1];
    for (const tick of ticks)
      chart.append(svg("line", { class: "grid", x1: LEFT, x2: WIDE - 12, y1: y(tick), y2: y(tick) }),
        svg("text", { x: LEFT - 6, y: y(tick) + 3.5, "text-anchor": "end" },
          `${log && tick < 0.01 ? `1e${Math.round(Math.log10(tick)) + 2}` : 100 * tick} %`));
    const every = Math.ceil(data.layers / 10);
    for (let layer = 0; layer < data.layers; layer += every)
      chart.append(svg("text", { x: x(layer), y: TALL - 8, "text-anchor": "middle" }, data.short[layer]));
    chart.append(svg("text", { x: LEFT - 19, y: TALL - 8, "text-anchor": "end" }, "layer"));
    for (const one of [...curves.slice(named.length), ...named, ...typed]) {
      const at = named.indexOf(one);
      const group = svg("g", { class: typed.includes(one) ? "typed" : at < 0 ? "thin" : "curve", "data-id": one.id });
      const pen = at < 0 ? {} : { stroke: inked(at), "stroke-dasharray": DASHES[at] };
      group.append(svg("path", { d: path(one.curve, x, y), fill: "none", ...pen }));
      one.curve.forEach((p, layer) => {
        if (Number.isNaN(p)) return;
        const dot = svg("circle", { cx: x(layer), cy: y(p), r: at < 0 ? 1.2 : 2.4, ...(at < 0 ? {} : { fill: inked(at) }) });
        dot.append(svg("title", {}, `${called(one)}, ${data.names[layer]}: ${percent(p)}`));
        group.append(dot);
      });
      chart.append(group);
    }
    return chart;
  }

  const refresh = () => cards.forEach((card) => card.refresh());
  return { node, draw, refresh };
}

const inked = (i) => `var(--line${i})`;
const called = (one) => (one.entry === undefined ? one.text : `${one.text} #${one.id}`);

function decades(low) {
  const step = Math.ceil(-low / 5);
  return Array.from({ length: Math.floor(-low / step) + 1 }, (_, i) => 10 ** (-i * step));
}

function path(curve, x, y) {
  let down = false;
  return curve.map((p, layer) => {
    const piece = Number.isNaN(p) ? "" : `${down ? "L" : "M"}${x(layer).toFixed(1)} ${y(p).toFixed(1)}`;
    down = !Number.isNaN(p);
    return piece;
  }).join("");
}

function legendLine(one, i, chart, data) {
  const swatch = svg("svg", { class: "swatch", viewBox: "0 0 26 8", "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, ...(i < 0 ? { class: "typed" } : { stroke: inked(i), "stroke-dasharray": DASHES[i], "stroke-width": 2.5 }) }));
  const final = one.curve.at(-1);
  const now = Number.isNaN(final) ? `at most ${percent(one.peak)}` : `finally ${percent(final)}`;
  const whose = one.entry === undefined ? "" : language(data, one.entry);
  const light = (on) => () => chart.querySelector(`[data-id=${CSS.escape(one.id)}]`).classList.toggle("lit", on);
  return el("li", { onpointerenter: light(true), onpointerleave: light(false) }, swatch, token(one.text),
    el("span", { class: "note" }, ` ${one.entry === undefined ? "all together" : `#${one.id}`}${whose ? ` · ${whose}` : ""} · ${now}`));
}
