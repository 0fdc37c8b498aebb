// What the colours mean, and the colours. Hues differ for the colour-blind; strength is always how far from the ground.

export const THEMES = {
  light: {
    ground: [255, 255, 255], ink: "#1b2330", paper: "#ffffff", muted: "#5d6879", soft: "#f4f6f9", grey: [122, 131, 146],
    hues: [[33, 96, 186], [222, 120, 0], [0, 142, 108], [170, 68, 153], [150, 56, 30], [140, 132, 0]], other: [92, 82, 120],
    blue: [29, 74, 165], amber: [178, 88, 0],
    steps: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], some: [226, 229, 236],
  },
  dark: {
    ground: [24, 29, 37], ink: "#f2f5fa", paper: "#12161c", muted: "#98a3b3", soft: "#1b212a", grey: [128, 138, 154],
    hues: [[88, 156, 245], [245, 166, 52], [52, 199, 150], [222, 134, 208], [226, 120, 92], [206, 200, 74]], other: [150, 140, 190],
    blue: [108, 168, 255], amber: [246, 178, 84],
    steps: [[116, 72, 160], [82, 114, 190], [44, 160, 154], [94, 201, 98], [253, 231, 37]], some: [48, 56, 68],
  },
};

/** Written out: a change of colours mixes one for every cell. */
export function mix([r, g, b], to, share) {
  return [Math.round(r + (to[0] - r) * share), Math.round(g + (to[1] - g) * share), Math.round(b + (to[2] - b) * share)];
}

/** Strength of a probability: the root, so that one in a hundred can be told from nothing. */
export function strength(p) {
  return p > 0 ? 0.05 + 0.95 * Math.sqrt(p) : 0;
}

function ramp(steps, share) {
  const at = share * (steps.length - 1);
  const low = Math.min(Math.floor(at), steps.length - 2);
  return mix(steps[low], steps[low + 1], at - low);
}

export function css(rgb) {
  return `rgb(${rgb[0]},${rgb[1]},${rgb[2]})`;
}

/** Ink on a cell: the one of the two that stands out more. */
export function inkOn(r, g, b) {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z > 0.19 ? "#10151d" : "#ffffff";
}

/** The hue of a language in this result; -1 and all beyond the first six share theirs. */
export function hue(data, theme, group) {
  const place = data.places.get(data.groups?.names[group]);
  return place === undefined ? theme.grey : theme.hues[place] ?? theme.other;
}

/** The value of every quantity's strongest colour, one for all lenses: a colour means the same side by side. */
export function shareScales(lenses) {
  for (const one of lenses.flatMap(({ quantities }) => quantities)) {
    const all = lenses.flatMap(({ quantities }) => quantities.filter(({ name }) => name === one.name).map(({ values }) => [...values])).flat();
    // A few very large values in early layers would leave the rest pale.
    const sorted = Float32Array.from(all).filter(Number.isFinite).sort();
    one.full = sorted[Math.floor(0.95 * (sorted.length - 1))] || 1;
  }
}

function sequential({ name, label, unit, values, full }, to) {
  const share = (value) => Math.min(Math.max(value / full, 0), 1);
  return {
    name, label,
    words: `Colour: ${label}; stronger colours are larger values`,
    scale: { from: "0", to: `${full.toPrecision(2)} ${unit} and more` },
    rgb: (theme) => (i) => (Number.isFinite(values[i]) ? mix(theme.ground, theme[to], 0.04 + 0.96 * share(values[i])) : theme.ground),
    end: (theme) => theme[to],
  };
}

/** The hue of every token: the one that has at least half of it, or grey. */
export function hues(data, theme) {
  const of = [...data.groups.names.keys(), -1].map((group) => hue(data, theme, group));
  return (entry) => of.at(data.groups.main[entry]);
}

/** Everything that the cells can be coloured by, in the order of the menu; `rgb(theme)` gives a cell's colour. */
export function colourings(data, look) {
  const found = [];
  const { top, prob, k, groups, positions, layers } = data;
  if (groups && top) {
    const of = prob ? "; stronger is more probable" : "";
    found.push({
      name: "language", label: groups.kind,
      words: `Colour: ${groups.kind} of the most probable token${of}`,
      rgb: (theme) => {
        const whose = hues(data, theme);
        return (i) => mix(theme.ground, whose(top[i * k]), prob ? strength(prob[i * k]) : 0.6);
      },
    });
  }
  if (prob)
    found.push({
      name: "probability", label: "probability", words: "Colour: probability of the most probable token",
      scale: { ticks: [0.01, 0.1, 0.5, 1] },
      rgb: (theme) => (i) => mix(theme.ground, theme.blue, strength(prob[i * k])), end: (theme) => theme.blue,
    });
  for (const one of data.quantities) found.push(sequential(one, "amber"));
  if (top)
    found.push({
      name: "stays", label: "answer stays",
      words: "Colour: the layer from which the final answer stays; pale grey: the final answer, but it changes again above",
      scale: { from: data.names[0], to: data.names.at(-1) },
      rgb: (theme) => (i) => {
        const layer = Math.floor(i / positions);
        const pos = i % positions;
        if (layer >= data.stays[pos]) return ramp(theme.steps, data.stays[pos] / Math.max(1, layers - 1));
        return top[i * k] === top[((layers - 1) * positions + pos) * k] ? theme.some : theme.ground;
      },
    });
  if (prob && top)
    found.push({
      name: "found", label: "found word", words: "Colour: probability of the words under find, all spellings together; blank where it is not known",
      scale: { ticks: [0.01, 0.1, 0.5, 1] },
      rgb: (theme) => (i) => mix(theme.ground, theme.blue, strength(look.found?.p[i])), end: (theme) => theme.blue,
    });
  return found;
}

/** Colours of all cells, three bytes each, [layer pos]. */
export function painted(data, colouring, theme) {
  const cells = data.layers * data.positions;
  const out = new Uint8ClampedArray(3 * cells);
  const rgb = colouring.rgb(theme);
  for (let i = 0, to = 0; i < cells; i++) {
    const [r, g, b] = rgb(i);
    out[to++] = r;
    out[to++] = g;
    out[to++] = b;
  }
  return out;
}

/** The same with all pale that a search leaves out. */
export function faded(colours, { ranks }, ground) {
  return colours.map((value, at) => (ranks.has(Math.floor(at / 3)) ? value : ground[at % 3] + (value - ground[at % 3]) * 0.2));
}

/** Colour stops of a legend's scale. */
export function stops(colouring, theme) {
  if (colouring.name === "stays") return theme.steps.map(css);
  const at = (share) => css(mix(theme.ground, colouring.end(theme), share));
  return colouring.scale.ticks ? [0, 0.25, 0.5, 0.75, 1].map((s) => at(strength(s * s))) : [at(0.04), at(1)];
}
