// Any grid of numbers in the map's shell: rows by columns, sheets as a third axis, values around zero.

import { el, number, svg, token } from "./dom.js";
import { diverging } from "./difference.js";
import { typed } from "./data.js";
import { marked } from "./written.js";

const [ACROSS, UP, INDENT, ABOVE, BELOW] = [460, 200, 52, 10, 28];
/** Space for the names of curves beside their ends, where there are at most so many. */
const [ENDS, FEW] = [84, 6];

/** What a pane shows of `packed` (see `grids.py`); `choose` puts another sheet's numbers into the arrays that are drawn. */
export function grid(packed) {
  const { layers, positions, sheets } = packed;
  const size = layers * positions;
  const whole = packed.quantities.map((one) => typed(one.values, Float32Array));
  const quantities = packed.quantities.map((one, i) => ({ ...one, values: whole[i].slice(0, size) }));
  const kinds = [{}]; // the colours of the sheet that is shown: a score of a sweep has its own scale
  const data = {
    ...packed, quantities, kinds, words, choose, k: 0, ids: [], texts: [], top: null, groups: null, places: new Map(), order: [],
    names: packed.rows.map((row) => `${packed.row} ${row}`), short: packed.rows, makePins, place: (pos) => packed.places[pos], where, table,
  };
  return data;

  function choose(sheet) {
    data.sheet = sheet;
    quantities.forEach(({ values }, i) => values.set(whole[i].subarray(sheet * size, (sheet + 1) * size)));
    const [{ name, label, unit, values, words, full }] = quantities;
    Object.assign(kinds[0], diverging(name, label, unit, values, { full: full[sheet], words: `Colour: ${label}; ${words}` }));
  }

  function words(layer, pos) {
    const value = quantities[0].values[layer * positions + pos];
    return [Number.isFinite(value) ? rounded(value, quantities[0].full[data.sheet]).replace(/^-(?=.*[1-9])/, "−").replace("-", "") : ""];
  }

  /** A column by its place and label, or by the name of its axis: "strength 2". */
  function column(pos) {
    const label = packed.labels[pos];
    return [packed.places[pos] ? `${packed.places[pos]} · ` : label.startsWith(packed.column) ? "" : `${packed.column} `, token(label)];
  }

  function where(layer, pos) {
    const parts = [`${data.names[layer]} · `, ...column(pos)];
    if (packed.under?.[pos]) parts.push(" ← ", token(packed.under[pos]));
    if (sheets.length > 1) parts.push(` · ${sheets[data.sheet ?? 0]}`);
    return el("p", { class: "where" }, ...parts);
  }

  function table() {
    const quote = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const plain = (label) => (packed.column === "strength" ? label.replace("−", "-") : label);
    const lines = [[packed.row, "column", "place", packed.sheet_name || "sheet", ...quantities.map((one) => one.name)].map(quote).join(",")];
    for (let i = 0; i < whole[0].length; i++) {
      const at = i % size;
      const place = [packed.rows[Math.floor(at / positions)], plain(packed.labels[at % positions]), packed.places[at % positions], sheets[Math.floor(i / size)]];
      lines.push([...place.map(quote), ...whole.map((values) => (Number.isFinite(values[i]) ? values[i] : ""))].join(","));
    }
    return `${lines.join("\r\n")}\r\n`;
  }

  /** Pinned columns through the rows, with the other sheets of one family thin; and the clicked row, through the columns. */
  function makePins(store, look) {
    const node = el("section", { class: "pins", "aria-label": "Pinned columns" });
    const value = (sheet, layer, pos) => whole[0][sheet * size + layer * positions + pos];

    function card(title, close, count, axis, names, along) {
      const family = packed.families[data.sheet];
      const others = [...sheets.keys()].filter((sheet) => sheet !== data.sheet && packed.families[sheet] === family);
      const told = family ? `the other conditions of ${family}` : `every other ${data.sheet_name}`;
      const curves = [...others, data.sheet ?? 0].map((sheet) => ({ sheet, curve: Array.from({ length: count }, (_, i) => value(sheet, ...along(i))) }));
      return el("figure", { class: "pin" }, el("figcaption", {}, el("span", {}, ...title, sheets.length > 1 ? ` · ${sheets[data.sheet ?? 0]}` : ""), close),
        plot(curves, names, axis, data), el("p", { class: "note" }, others.length ? `thin lines: ${told}` : ""));
    }

    function draw() {
      const { pins, at } = store.state;
      const close = (pos) => el("button", { type: "button", class: "close", "aria-label": `unpin column ${pos}`, onclick: () => look.pin(pos) }, "×");
      const columns = pins.map((pos) => {
        const one = card([`${quantities[0].label} · `, ...column(pos)], close(pos), layers, packed.row, packed.rows, (i) => [i, pos]);
        one.dataset.pos = pos;
        return one;
      });
      const row = pins.length && at ? [card([`${quantities[0].label} · ${data.names[at.layer]}`], "", positions, packed.column, packed.labels, (i) => [at.layer, i])] : [];
      const bar = el("div", { class: "pinbar" }, el("h2", {}, "Pinned columns"), el("button", { type: "button", onclick: () => store.set({ pins: [] }) }, "unpin all"));
      node.replaceChildren(...(pins.length ? [bar, ...columns, ...row] : []));
    }
    return { node, draw };
  }
}

/** Two decimals, one for large numbers, and more where the whole scale is small. */
function rounded(value, full) {
  if (full < 1e-4) return value ? value.toExponential(1) : "0";
  return value.toFixed(full < 0.1 ? 1 - Math.floor(Math.log10(full)) : Math.abs(value) < 10 ? 2 : 1);
}

/** The choice among sheets: heads, references, conditions. */
export function makeSheets(data, store) {
  const choice = el("select", { "aria-label": data.sheet_name, onchange: () => store.set({ sheet: choice.selectedIndex }) },
    ...data.sheets.map((name) => el("option", {}, name)));
  choice.selectedIndex = store.state.sheet;
  return el("label", { class: "group sheets" }, data.sheet_name, choice);
}

/** As many characters of a name as its place on the axis holds. */
function shortened(name, room) {
  const all = [...name];
  return all.length > room ? `${all.slice(0, Math.max(1, room - 1)).join("")}…` : name;
}

function plot(curves, names, axis, data) {
  const values = curves.flatMap(({ curve }) => curve).filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const span = high - low || 1;
  const named = curves.length > 1 && curves.length <= FEW;
  const x = (i) => INDENT + ((i + 0.5) / names.length) * (ACROSS - INDENT - (named ? ENDS : 10));
  const y = (value) => UP - BELOW - ((value - low) / span) * (UP - ABOVE - BELOW);
  const chart = svg("svg", { viewBox: `0 0 ${ACROSS} ${UP}`, role: "img", "aria-label": data.quantities[0].label });
  for (const tick of marked(low, high, y))
    chart.append(svg("line", { class: "grid", x1: INDENT, x2: ACROSS - 10, y1: y(tick), y2: y(tick) }),
      svg("text", { x: INDENT - 6, y: y(tick) + 3.5, "text-anchor": "end" }, number(tick)));
  const every = Math.ceil(names.length / 10);
  const room = Math.floor((every * (x(1) - x(0))) / 6.5);
  names.forEach((name, i) => i % every || chart.append(svg("text", { x: x(i), y: UP - 10, "text-anchor": "middle" }, shortened(name, room))));
  chart.append(svg("text", { x: INDENT - 6, y: UP - 10, "text-anchor": "end" }, axis));
  curves.forEach(({ sheet, curve }, order) => {
    const bold = order === curves.length - 1;
    const group = svg("g", { class: bold ? "curve value" : "thin", "data-sheet": sheet });
    let down = false;
    const d = curve.map((value, i) => {
      const piece = Number.isFinite(value) ? `${down ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}` : "";
      down = Boolean(piece);
      return piece;
    }).join("");
    group.append(svg("path", { d, fill: "none" }));
    curve.forEach((value, i) => {
      if (!Number.isFinite(value) || (!bold && curves.length > 20)) return;
      const dot = svg("circle", { cx: x(i), cy: y(value), r: bold ? 2.6 : 1.4 });
      dot.append(svg("title", {}, `${data.sheets[sheet] ? `${data.sheets[sheet]}, ` : ""}${names[i]}: ${number(value)}`));
      group.append(dot);
    });
    chart.append(group);
  });
  if (named) chart.append(...ends(curves, data).map(([name, i, value]) => svg("text", { class: "end", x: x(i) + 6, y: y(value) + 3.5 }, name)).reduceRight(apart, []));
  return chart;
}

/** Of every curve its name without its family's, and its last point. */
function ends(curves, { sheets, families }) {
  return curves.flatMap(({ sheet, curve }) => {
    const last = curve.findLastIndex(Number.isFinite);
    const name = families[sheet] ? sheets[sheet].slice(families[sheet].length + 2) : sheets[sheet];
    return last < 0 ? [] : [[shortened(name, 11), last, curve[last]]];
  });
}

/** Without a name that would run into another one; the curve that is chosen comes first. */
function apart(kept, text) {
  const high = (one) => Number(one.getAttribute("y"));
  return kept.some((one) => Math.abs(high(one) - high(text)) < 14) ? kept : [...kept, text];
}
