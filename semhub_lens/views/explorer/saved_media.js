// Pictures with their patches, and sound with its words, as shapes of a saved drawing.

const [GAP, CAPTION, LANE] = [16, 14, 26];

/** `tools` are those of `picture.js`. Pictures stand side by side as far as there is room, sounds below each other. */
export function drawMedia(parts, top, tools) {
  const { left, right } = tools;
  let [x, tallest] = [left, 0];
  for (const one of parts) {
    if (x > left && x + one.width > right) [x, top, tallest] = [left, top + tallest, 0];
    const height = one.moments ? drawSound(one, x, top, tools) : drawPicture(one, x, top, tools);
    [x, tallest] = [x + one.width + GAP, Math.max(tallest, height)];
  }
  return top + tallest;
}

/** A picture, over it the colours of its patches and their words. */
function drawPicture({ name, image, rows, columns, width, height, wash, font: size, readable, patches }, left, top, { put, box, cut, pen, font, shapes, theme }) {
  const [across, down] = [width / columns, height / rows];
  put(left, top + 6, name, { plain: true, room: width });
  shapes.push({ kind: "image", x: left, y: top + CAPTION, width, height, image });
  patches.forEach(({ word, colour, missed, hit, pinned }, i) => {
    const [x, y] = [left + (i % columns) * across, top + CAPTION + Math.floor(i / columns) * down];
    const [, rgb, alpha] = /^rgba\((.+),(.+)\)$/.exec(colour) ?? [];
    if (rgb) box(x, y, across, down, `rgb(${rgb})`, null, alpha * wash);
    if (hit || pinned) box(x + 1, y + 1, across - 2, down - 2, "none", theme.ink);
    if (!readable || !word) return;
    pen.font = font(size);
    const room = across - 6;
    const taken = pen.measureText(cut(pen, word, room)).width + 6;
    box(x + (across - taken) / 2, y + down / 2 - 0.68 * size, taken, 1.35 * size, theme.paper, null, 0.82);
    put(x + across / 2, y + down / 2 + 0.35 * size, word, { size, room, anchor: "middle", fill: missed ? theme.muted : theme.ink });
  });
  return height + 38;
}

/** The colours of the moments, over them the waveform; below it the words and the seconds. */
function drawSound({ name, width, height, moments, words, wave, ticks }, left, top, { put, box, shapes, theme }) {
  const [up, low] = [top + CAPTION, top + CAPTION + height];
  put(left, top + 6, name, { plain: true, room: width });
  for (const { from, wide, fill, pinned } of moments) {
    box(left + from, up, wide, height, fill);
    if (pinned) box(left + from, low - 3, Math.max(2, wide), 3, theme.ink);
  }
  const d = wave.map(([above, below], x) => `M${left + x} ${(up + above).toFixed(1)}h1v${Math.max(1, below - above).toFixed(1)}h-1z`).join("");
  if (d) shapes.push({ kind: "path", d, fill: theme.ink, alpha: 0.75 });
  for (const { word, from, wide, hit, missed } of words) {
    box(left + from, low, wide, LANE, theme.soft);
    box(left + from, low, 1, LANE, theme.some);
    if (hit) box(left + from + 1, low + 1, wide - 2, LANE - 2, "none", theme.ink);
    put(left + from + 4, low + 17, word, { room: wide - 6, fill: missed ? theme.muted : theme.ink });
  }
  for (const { at, text } of ticks) put(left + at, low + LANE + 13, text, { size: 10, plain: true, fill: theme.muted, anchor: at ? "middle" : "start", room: width });
  return CAPTION + height + LANE + 32;
}
