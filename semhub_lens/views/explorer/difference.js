// Two lenses of equal shape: what is another in the second one, cell by cell. `comparison.py` says the same numbers.

import { clamp, number } from "./dom.js";
import { css, hues, mix, strength } from "./colour.js";

/** The second lens, with what changed in it; blank where a side has no token. */
export function difference(a, b) {
  const both = (i) => a.top && b.top && a.ids[a.top[i * a.k]] >= 0 && b.ids[b.top[i * b.k]] >= 0;
  const first = (lens, i) => lens.ids[lens.top[i * lens.k]];
  const changed = (i) => both(i) && first(a, i) !== first(b, i);
  const quantities = b.quantities.flatMap((one) => {
    const other = a.quantities.find(({ name }) => name === one.name);
    return other ? [{ ...one, label: `change of ${one.label}`, values: one.values.map((value, i) => value - other.values[i]) }] : [];
  });
  const under = a.labels.map((label, pos) => (label === b.labels[pos] ? "" : label));
  return { ...b, under: under.some(Boolean) ? under : null, called: `${a.called} → ${b.called}`, stays: null, mass: null, order: [], quantities, kinds: kinds(a, b, quantities, both, changed), words };

  function words(layer, pos) {
    const i = layer * b.positions + pos;
    if (!both(i)) return [""];
    const now = b.texts[b.top[i * b.k]];
    return changed(i) ? [now, a.texts[a.top[i * a.k]]] : [now];
  }
}

function kinds(a, b, quantities, both, changed) {
  const found = [];
  if (a.top && b.top) {
    found.push({
      name: "changed", label: "answer changed",
      words: `Coloured where B has another most probable token${b.groups ? `, by its ${b.groups.kind}` : ""}; the small token is A's`,
      rgb: (theme) => {
        const whose = b.groups ? hues(b, theme) : () => theme.blue;
        return (i) => (changed(i) ? mix(theme.ground, whose(b.top[i * b.k]), b.prob ? strength(b.prob[i * b.k]) : 0.6) : theme.ground);
      },
      chips: Boolean(b.groups),
    });
    const lost = (i) => {
      const held = new Set(Array.from(a.top.subarray(i * a.k, (i + 1) * a.k), (entry) => a.ids[entry]));
      const kept = b.top.subarray(i * b.k, (i + 1) * b.k).reduce((sum, entry) => sum + held.has(b.ids[entry]), 0);
      return 1 - kept / Math.min(a.k, b.k);
    };
    found.push({
      name: "replaced", label: "tokens replaced",
      words: "Colour: how many of the stored tokens differ in B; stronger colours are larger values",
      scale: { from: "none", to: "all" },
      rgb: (theme) => (i) => (both(i) ? mix(theme.ground, theme.amber, lost(i)) : theme.ground), end: (theme) => theme.amber,
    });
  }
  for (const { name, label, unit, values } of quantities) found.push(diverging(name, label, unit, values));
  return found;
}

export function diverging(name, label, unit, values, given = {}) {
  const sizes = Float32Array.from(values, Math.abs).filter(Number.isFinite).sort();
  const full = given.full ?? (sizes[Math.floor(0.95 * (sizes.length - 1))] || 1);
  const end = (sign) => `${sign}${full < 1e-4 || full >= 100 ? number(full) : full.toPrecision(2)} ${unit}`.trim();
  const beyond = (sign) => values.some((value) => Number.isFinite(value) && sign * value > 1.005 * full);
  const at = (theme, share) => mix(theme.ground, share < 0 ? theme.blue : theme.amber, Math.abs(share));
  return {
    name, label,
    words: given.words ?? `Colour: ${label}, B minus A; blue is negative, amber positive`,
    scale: { from: end("−") + (beyond(-1) ? " and less" : ""), to: end("+") + (beyond(1) ? " and more" : "") },
    rgb: (theme) => (i) => (Number.isFinite(values[i]) ? at(theme, clamp(values[i] / full, -1, 1)) : theme.ground),
    stops: (theme) => [-1, 0, 1].map((share) => css(at(theme, share))),
  };
}
