// The part of the map that is on screen as a picture: one list of shapes, written as SVG or painted as PNG.

import { percent, svg } from "./dom.js";
import { shares } from "./data.js";
import { css, hue, inkOn, stops } from "./colour.js";
import { READABLE } from "./map.js";
import { drawMedia } from "./saved_media.js";
import { spacing } from "./strip.js";

const [MARGIN, NAMES, BARS_WIDE, LEAST] = [16, 44, 130, 560];
const SANS = '"DejaVu Sans", "Noto Sans", Arial, sans-serif';
const FINE = 2;
/** Whether a text begins in a script that is written from the right. */
const fromRight = (text) => /^[^\p{L}]*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u.test(text);

/** Shapes of the visible columns of all `panes`, one below the other, with title, legend and provenance. */
export function picture(panes, { title, text, legend, mono, media = [] }) {
  const { theme } = panes[0].look;
  const pen = document.createElement("canvas").getContext("2d");
  const { muted } = theme;
  const shapes = [];
  const wide = Math.max(LEAST, ...panes.map((pane) => 2 * MARGIN + NAMES + spanOf(pane) + (pane.shares ? BARS_WIDE + 8 : 0)), ...media.map((one) => 2 * MARGIN + one.width));
  const font = (size, plain) => `${size}px ${plain ? SANS : mono}`;

  function put(x, y, words, { size = 12, fill = theme.ink, plain = false, anchor = "start", room = wide - MARGIN - x, struck = false } = {}) {
    pen.font = font(size, plain);
    const shown = cut(pen, words, room);
    if (shown) shapes.push({ kind: "text", x, y, text: shown, font: { size, family: plain ? SANS : mono }, fill, anchor, struck, width: pen.measureText(shown).width });
    return pen.measureText(shown).width;
  }

  const box = (x, y, width, height, fill, line = null, alpha = 1) => shapes.push({ kind: "box", x, y, width, height, fill, line, alpha });
  let y = MARGIN + 14;
  const headed = put(MARGIN, y, title, { size: 16, plain: true });
  put(MARGIN + headed + 12, y, text, { size: 13, fill: muted });
  y = key(y + 24);
  if (media.length) y = drawMedia(media, y, { put, box, cut, pen, font, shapes, theme, left: MARGIN, right: wide - MARGIN });
  for (const pane of panes) y = drawPane(pane, y);
  for (const note of new Set(panes.map(({ data }) => data.note))) put(MARGIN, (y += 14), note, { size: 9, plain: true, fill: muted });
  return { width: Math.ceil(wide), height: Math.ceil(y + MARGIN), ground: theme.paper, shapes };

  /** The legend in words, its scale and its chips. */
  function key(top) {
    const kind = panes[0].kind();
    put(MARGIN, top, legend.querySelector(".words").textContent, { size: 11.5, plain: true, fill: muted });
    let [x, line] = [MARGIN, top + 20];
    const say = (words) => (x += put(x, line, words, { size: 11.5, plain: true }) + 6);
    if (kind.scale) {
      if (!kind.scale.ticks) say(kind.scale.from);
      shapes.push({ kind: "ramp", x, y: line - 9, width: 170, height: 10, stops: kind.stops?.(theme) ?? stops(kind, theme) });
      for (const tick of kind.scale.ticks ?? []) put(x + 170 * Math.sqrt(tick), line + 13, percent(tick).replace(/\.0+ /, " "), { size: 9.5, plain: true, fill: muted, anchor: "middle" });
      x += 178;
      if (!kind.scale.ticks) say(kind.scale.to);
      else line += 4;
      if (legend.querySelector(".chip")) say("  Bars:");
    }
    for (const entry of legend.querySelectorAll(".entry:has(.chip)")) {
      pen.font = font(11.5, true);
      if (x + 26 + pen.measureText(entry.textContent).width > wide - MARGIN) [x, line] = [MARGIN, line + 18];
      box(x, line - 10, 12, 12, entry.querySelector(".chip").style.background);
      x += 17;
      say(entry.textContent);
      x += 8;
    }
    return line + 18;
  }

  function drawPane(pane, top) {
    const { data, map, look, store } = pane;
    const held = (pos) => store.state.pins.includes(pos);
    const { first, last } = map.range();
    const step = map.width();
    const left = MARGIN + NAMES;
    const x = (pos) => left + Math.round((pos - first) * step);
    let base = top;
    if (pane.name) put(MARGIN, (base += 12) - 2, [pane.name, data.called].filter(Boolean).join(": "), { plain: true });
    if (pane.name) base += 6;
    const aside = { size: 10.5, plain: true, fill: muted };
    put(left - 6, (base += 12) - 4, data.row ?? "layer", { ...aside, anchor: "end", room: NAMES });
    if (pane.shares) put(x(last) + 8, base - 4, "share of probability", aside);
    for (let layer = 0; layer < data.layers; layer++) {
      const row = base + (data.layers - 1 - layer) * map.height;
      put(left - 6, row + map.height * 0.68, data.short[layer], { size: 11, plain: true, fill: muted, anchor: "end", room: NAMES });
      for (let pos = first; pos < last; pos++) {
        const rgb = map.colour(layer * data.positions + pos);
        const gap = step > 6 ? 1 : 0;
        const hit = look.found?.ranks.has(layer * data.positions + pos) ? theme.ink : null;
        box(x(pos), row, x(pos + 1) - x(pos) - gap, map.height - 1, css(rgb), hit);
        if (step >= READABLE) say(map.words(layer, pos), x(pos) + 5, row + map.height * 0.7, step - 9, look.found && !hit ? muted : inkOn(...rgb));
      }
      if (pane.shares) bar(data, layer, first, last, x(last) + 8, row, map.height - 1);
    }
    base += data.layers * map.height + 15;
    put(left - 6, base, data.column ?? "input", { ...aside, anchor: "end", room: NAMES });
    for (let pos = first; pos < last; pos++) {
      if (held(pos)) box(x(pos), base - 13, x(pos + 1) - x(pos) - 1, data.under ? 34 : 18, theme.ink);
      if (step >= READABLE) put(x(pos) + 5, base, data.labels[pos], { room: step - 9, fill: held(pos) ? theme.paper : theme.ink });
    }
    if (step >= READABLE && data.under) for (let pos = first; pos < last; pos++) put(x(pos) + 5, base + 15, data.under[pos] ?? "", { room: step - 9, fill: held(pos) ? theme.paper : muted });
    const every = spacing(step);
    if (step < READABLE)
      for (let pos = Math.ceil(first / every) * every; pos < last; pos += every) put(x(pos + 0.5), base, String(pos), { ...aside, anchor: "middle" });
    return base + (data.under ? 34 : 18);
  }

  /** A cell's word, and beside it what it was, struck through. */
  function say([now, was], x, y, room, fill) {
    if (!now) return;
    const taken = put(x, y, now, { room, fill }) + 6;
    if (was && room - taken > 12) put(x + taken, y, was, { size: 10.5, room: room - taken, fill, struck: true });
  }

  function bar(data, layer, first, last, x, y, height) {
    const sums = shares(data, layer, first, last);
    let [done, from] = [0, 0];
    box(x, y, BARS_WIDE, height, theme.soft);
    for (const g of [...data.order, ...(data.groups.unknown < 0 ? [] : [data.groups.unknown])]) {
      done += BARS_WIDE * sums[g];
      const to = Math.round(FINE * done) / FINE; // whole pixels leave no seams
      if (to > from) box(x + from, y, to - from, height, css(hue(data, theme, g)));
      from = to;
    }
  }
}

function spanOf({ map }) {
  const { first, last } = map.range();
  return (last - first) * map.width();
}

/** As much of a text as there is room for. */
function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const points = [...text];
  while (points.length && pen.measureText(`${points.join("")}…`).width > room) points.pop();
  return points.length ? `${points.join("")}…` : "";
}

export function asSvg({ width, height, ground, shapes }) {
  const root = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` });
  root.append(svg("rect", { width, height, fill: ground }));
  for (const one of shapes) root.append(...pieces[one.kind](one));
  return new Blob([new XMLSerializer().serializeToString(root)], { type: "image/svg+xml" });
}

let ramps = 0;
const pieces = {
  box: ({ x, y, width, height, fill, line, alpha }) => [svg("rect", { x, y, width, height, fill, "fill-opacity": alpha < 1 ? alpha.toFixed(3) : null, stroke: line, "stroke-width": line && 2 })],
  image: ({ x, y, width, height, image }) => [svg("image", { x, y, width, height, href: image.src, preserveAspectRatio: "none" })],
  text({ x, y, text, font, fill, anchor, struck }) {
    const turned = fromRight(text);
    const props = { "font-size": font.size, "font-family": font.family, "text-decoration": struck ? "line-through" : null, "xml:space": "preserve" };
    const side = { direction: turned ? "rtl" : null, "text-anchor": turned ? { start: "end", middle: "middle", end: "start" }[anchor] : anchor };
    return [svg("text", { x, y, fill, ...props, ...side }, text)];
  },
  path: ({ d, fill, alpha }) => [svg("path", { d, fill, "fill-opacity": alpha })],
  ramp: ({ x, y, width, height, stops: colours }) => {
    const id = `ramp${(ramps += 1)}`;
    const parts = colours.map((colour, i) => svg("stop", { offset: i / (colours.length - 1), "stop-color": colour }));
    return [svg("linearGradient", { id }, ...parts), svg("rect", { x, y, width, height, fill: `url(#${id})` })];
  },
};

/** Twice as fine as it is measured. */
export function asPng({ width, height, ground, shapes }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [FINE * width, FINE * height];
  const pen = canvas.getContext("2d");
  pen.scale(FINE, FINE);
  pen.fillStyle = ground;
  pen.fillRect(0, 0, width, height);
  for (const one of shapes) strokes[one.kind](pen, one);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

const strokes = {
  image: (pen, { x, y, width, height, image }) => pen.drawImage(image, x, y, width, height),
  path(pen, { d, fill, alpha }) {
    [pen.fillStyle, pen.globalAlpha] = [fill, alpha];
    pen.fill(new Path2D(d));
    pen.globalAlpha = 1;
  },
  box(pen, { x, y, width, height, fill, line, alpha }) {
    [pen.fillStyle, pen.globalAlpha] = [fill, alpha];
    if (fill !== "none") pen.fillRect(x, y, width, height);
    pen.globalAlpha = 1;
    if (!line) return;
    [pen.strokeStyle, pen.lineWidth] = [line, 2];
    pen.strokeRect(x, y, width, height);
  },
  text(pen, { x, y, text, font, fill, anchor, struck, width }) {
    [pen.font, pen.fillStyle, pen.textAlign] = [`${font.size}px ${font.family}`, fill, { start: "left", middle: "center", end: "right" }[anchor]];
    pen.direction = fromRight(text) ? "rtl" : "ltr";
    pen.fillText(text, x, y);
    if (struck) pen.fillRect(x, y - font.size * 0.3, width, 1);
  },
  ramp(pen, { x, y, width, height, stops: colours }) {
    const gradient = pen.createLinearGradient(x, 0, x + width, 0);
    colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
    pen.fillStyle = gradient;
    pen.fillRect(x, y, width, height);
  },
};
