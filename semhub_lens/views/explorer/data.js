// The measured numbers, unpacked, and what follows from them.

import { layerName, number } from "./dom.js";

export function typed(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}

/** Probabilities of three significant digits: a decade and one of 900 mantissas; see `packing.py`. */
function probabilities(codes) {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    out[i] = code === 65535 ? 0 : code === 65534 ? NaN : ((100 + (code % 900)) / 100) * 10 ** -Math.floor(code / 900);
  }
  return out;
}

export function read(packed) {
  const data = { ...packed };
  data.names = packed.entries.map(layerName);
  data.short = packed.entries.map((entry) => (entry === 0 ? "emb" : String(entry)));
  const places = (text) => typed(text, packed.texts.length <= 65536 ? Uint16Array : Uint32Array);
  data.top = packed.top && places(packed.top);
  data.prob = packed.prob && probabilities(typed(packed.prob, Uint16Array));
  data.curves = packed.curves && { ...packed.curves, top: places(packed.curves.top), prob: probabilities(typed(packed.curves.prob, Uint16Array)) };
  data.quantities = packed.quantities.map((one) => ({ ...one, values: typed(one.values, Float32Array) }));
  data.groups = packed.groups && grouped(packed.groups, packed.texts.length);
  data.stays = data.top && stays(data);
  data.mass = data.groups && data.top && data.prob && mass(data);
  data.at = (pos) => (packed.columns ? packed.columns[pos] : pos); // of two lenses: null where a side has no token
  data.place = (pos) => (data.at(pos) === null ? "no token here" : `position ${data.at(pos)}`);
  data.byId = new Map(packed.ids.map((id, entry) => [id, entry]));
  return data;
}

/** Of every token: weights over languages (or scripts), and the one that has at least half of it, else -1. */
function grouped(groups, tokens) {
  const weights = typed(groups.weights, Uint8Array);
  const width = groups.names.length;
  const unknown = groups.names.indexOf("unknown");
  const main = new Int16Array(tokens).fill(-1);
  for (let entry = 0; entry < tokens; entry++)
    for (let i = 0; i < width; i++) if (i !== unknown && weights[entry * width + i] >= 128) main[entry] = i;
  return { ...groups, weights, width, unknown, main, titles: groups.names.map((name) => groupTitle(name, groups)) };
}

export function groupTitle(name, { kind, scripts = [] }) {
  if (name === "unknown") return name;
  if (kind !== "language" || scripts.includes(name)) return name[0].toUpperCase() + name.slice(1) + (scripts.includes(name) ? " script" : "");
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(name);
  } catch {
    return name;
  }
}

/** Per position the first layer from which the most probable token is the final one at every layer. */
function stays({ layers, positions, k, top }) {
  const from = new Int16Array(positions);
  for (let pos = 0; pos < positions; pos++) {
    const final = top[((layers - 1) * positions + pos) * k];
    let layer = layers - 1;
    while (layer > 0 && top[((layer - 1) * positions + pos) * k] === final) layer--;
    from[pos] = layer;
  }
  return from;
}

/** Per cell, how much of the probability of its stored tokens each language has; nothing where there is no token. */
function mass({ layers, positions, k, top, prob, groups }) {
  const { width, weights } = groups;
  const out = new Float32Array(layers * positions * width);
  for (let i = 0; i < top.length; i++) {
    const cell = Math.floor(i / k) * width;
    const entry = top[i] * width;
    for (let g = 0; g < width; g++) out[cell + g] += ((prob[i] || 0) * weights[entry + g]) / 255;
  }
  return out;
}

/**
 * Languages by their share of all cells, English first: colours are given out in this order, to all lenses alike.
 * Of the first `count`, those with a place in `kept` stay there, so that a colour means the same from answer to answer.
 */
export function shareHues(several, kept = new Map(), count = 0) {
  const sums = new Map();
  for (const { mass, groups } of several) {
    for (const name of groups?.names ?? []) sums.set(name, sums.get(name) ?? Number(!mass));
    for (let i = 0; i < (mass?.length ?? 0); i++) {
      const name = groups.names[i % groups.width];
      sums.set(name, sums.get(name) + mass[i]);
    }
  }
  const rank = (name) => (name === "en" || name === "latin" ? Infinity : sums.get(name));
  const names = [...sums.keys()].filter((name) => name !== "unknown" && sums.get(name) > 0);
  if (several.length > 1) names.sort((a, b) => rank(b) - rank(a)); // one lens comes in its order
  const old = names.slice(0, count).filter((name) => kept.get(name) < count);
  const free = [...names.keys()].filter((place) => !old.some((name) => kept.get(name) === place));
  const places = new Map(names.map((name) => [name, old.includes(name) ? kept.get(name) : free.shift()]));
  names.sort((a, b) => places.get(a) - places.get(b));
  for (const data of several) {
    data.places = places;
    data.order = data.mass ? names.map((name) => data.groups.names.indexOf(name)).filter((g) => g >= 0) : [];
  }
}

/** Mean share of every language at a layer over positions first..last (not included). */
export function shares({ positions, mass, groups, at }, layer, first, last) {
  const sums = new Float64Array(groups.width);
  let count = 0;
  for (let pos = first; pos < last; pos++) {
    if (at(pos) === null) continue;
    count += 1;
    for (let g = 0; g < groups.width; g++) sums[g] += mass[(layer * positions + pos) * groups.width + g];
  }
  return sums.map((sum) => sum / Math.max(1, count));
}

/** The stored tokens of a cell, most probable first. */
export function cell(data, layer, pos) {
  const at = (layer * data.positions + pos) * data.k;
  if (!data.top) return [];
  return Array.from({ length: data.k }, (_, rank) => {
    const entry = data.top[at + rank];
    return { entry, rank, id: data.ids[entry], text: data.texts[entry], p: data.prob ? data.prob[at + rank] : NaN };
  });
}

/** In words, what was measured of a cell beside its tokens. */
export function facts({ quantities, positions }, layer, pos) {
  return quantities.map(({ label, unit, values }) => `${label} ${number(values[layer * positions + pos])} ${unit}`.trim());
}

/** In words, whose token it is: "Spanish", "Spanish 35 %, Portuguese 30 %", "unknown". */
export function language({ groups }, entry) {
  if (!groups) return "";
  if (groups.main[entry] >= 0) return groups.titles[groups.main[entry]];
  const found = [...groups.names.keys()]
    .map((g) => [groups.weights[entry * groups.width + g] / 255, groups.titles[g]])
    .filter(([share, name]) => share >= 0.1 && name !== "unknown")
    .sort((a, b) => b[0] - a[0]);
  return found.map(([share, name]) => `${name} ${Math.round(100 * share)} %`).join(", ") || "unknown";
}

/** The whole curves of a position: of the tokens that lead at some layer, by entry. */
function wholes({ curves, layers, positions }, pos) {
  const found = new Map();
  for (let c = 0; c < (curves?.width ?? 0); c++) {
    const curve = Array.from({ length: layers }, (_, layer) => curves.prob[(layer * positions + pos) * curves.width + c]);
    if (!Number.isNaN(curve[0])) found.set(curves.top[pos * curves.width + c], curve);
  }
  return found;
}

/** Curves are drawn of these: every token stored at some layer of a position; the final one first, then those that lead. */
export function trajectories(data, pos) {
  const whole = wholes(data, pos);
  const found = new Map();
  for (let layer = 0; layer < data.layers; layer++)
    for (const one of cell(data, layer, pos)) {
      const known = found.get(one.entry) ?? { ...one, curve: whole.get(one.entry) ?? new Array(data.layers).fill(NaN), peak: 0, led: false };
      known.curve[layer] = one.p;
      known.peak = Math.max(known.peak, one.p);
      known.led ||= one.rank === 0;
      found.set(one.entry, known);
    }
  const final = data.top && data.top[((data.layers - 1) * data.positions + pos) * data.k];
  const first = (one) => (one.entry === final ? 2 : Number(one.led));
  return [...found.values()].sort((a, b) => first(b) - first(a) || b.peak - a.peak);
}

const bare = (text) => text.replace(/^[␣↵⇥]+/, "").normalize("NFC").toLowerCase();

/** The tokens that a word stands for: any spelling with that text, an id, else any that begins so. */
function spelled(data, word) {
  const wanted = bare(word.replace(/\s/g, "␣"));
  if (!wanted) return [];
  const digits = /^#?(\d+)$/.exec(wanted);
  const entries = [...data.texts.keys()].filter((i) => bare(data.texts[i]) === wanted);
  if (digits && data.byId.has(Number(digits[1]))) entries.push(data.byId.get(Number(digits[1])));
  return entries.length ? entries : [...data.texts.keys()].filter((i) => bare(data.texts[i]).startsWith(wanted));
}

/**
 * Words or ids, with a comma and a blank between several: the rank of the best of their tokens in every cell that stores one, and
 * what is known of their probability there, all tokens together.
 */
export function search(data, text) {
  const listed = text.trim().split(/,\s+/).filter((word) => word);
  if (!listed.length || !data.top) return null;
  const words = listed.map((word) => ({ word, entries: new Set(spelled(data, word)) }));
  for (const one of words) one.p = together(data, one.entries);
  const held = new Set(words.flatMap(({ entries }) => [...entries]));
  const ranks = new Map();
  for (let i = 0; i < data.top.length; i++) {
    const at = Math.floor(i / data.k);
    if (held.has(data.top[i]) && !ranks.has(at)) ranks.set(at, i % data.k);
  }
  const byReading = (a, b) => (a % data.positions) - (b % data.positions) || a - b;
  return { words, ranks, cells: [...ranks.keys()].sort(byReading), p: words.length > 1 ? together(data, held) : words[0].p };
}

/** In every cell the summed probability of tokens, of what is known: stored there, or a leader's at another layer. */
function together({ top, prob, curves, k, layers, positions }, held) {
  const sums = new Float32Array(layers * positions).fill(NaN);
  const add = (i, p) => (sums[i] = Number.isNaN(sums[i]) ? p : sums[i] + p);
  for (let i = 0; i < sums.length; i++) {
    const stored = prob ? top.subarray(i * k, (i + 1) * k) : [];
    stored.forEach((entry, rank) => held.has(entry) && add(i, prob[i * k + rank]));
    for (let c = 0, at = (i % positions) * (curves?.width ?? 0); c < (curves?.width ?? 0); c++) {
      const p = curves.prob[i * curves.width + c];
      if (held.has(curves.top[at + c]) && !stored.includes(curves.top[at + c]) && !Number.isNaN(p)) add(i, p);
    }
  }
  return sums;
}

/** The best rank of what was found, at every layer that has it. */
export function bestRanks({ layers, positions }, { ranks }) {
  const best = new Array(layers).fill(null);
  for (const [i, rank] of ranks) {
    const layer = Math.floor(i / positions);
    best[layer] = Math.min(best[layer] ?? rank, rank);
  }
  return best;
}

/** All numbers; `more` says something else of every position. */
export function csv(data, more = { names: [], of: () => [] }) {
  const quote = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const names = data.quantities.map((one) => one.name);
  const head = ["layer", "pos", "input", "rank", "id", "token", "probability", "language", ...names, ...more.names];
  const lines = [head.join(",")];
  for (let layer = 0; layer < data.layers; layer++)
    for (let pos = 0; pos < data.positions; pos++) {
      if (data.at(pos) === null) continue;
      const numbers = data.quantities.map((one) => one.values[layer * data.positions + pos]);
      const tokens = cell(data, layer, pos);
      for (const one of tokens.length ? tokens : [{ rank: "", id: "", text: "", p: "" }]) {
        const p = one.p === "" || Number.isNaN(one.p) ? "" : Number(one.p.toPrecision(3));
        const whose = one.entry === undefined ? "" : language(data, one.entry);
        const row = [data.entries[layer], data.at(pos), quote(data.labels[pos]), one.rank, one.id, quote(one.text), p, quote(whose), ...numbers, ...more.of(pos).map((one) => (typeof one === "string" ? quote(one) : one))];
        lines.push(row.join(","));
      }
    }
  return lines.join("\r\n") + "\r\n";
}
