// All tokens by all layers as one picture, to move by; and the share of languages at every layer.

import { alone, clamp, el, percent } from "./dom.js";
import { shares } from "./data.js";
import { css, hue } from "./colour.js";

export function makeOverview(data, store, look, map) {
  const { layers, positions } = data;
  const canvas = el("canvas", { class: "whole", "aria-hidden": "true" });
  canvas.width = positions;
  canvas.height = layers;
  const frame = el("div", { class: "frame" });
  const node = el("div", {
    class: "overview", role: "scrollbar", tabindex: "0", "aria-label": `Overview of all ${data.rows ? "columns" : "tokens"}; arrow keys move`,
    "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": positions - 1,
  }, canvas, frame);

  /** A pixel a cell; the map shows it enlarged where columns are too narrow for words. */
  function paint() {
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(positions, layers);
    const { data } = image;
    for (let layer = 0, from = 0; layer < layers; layer++) {
      let to = 4 * (layers - 1 - layer) * positions;
      for (let pos = 0; pos < positions; pos++) {
        for (let part = 0; part < 3; part++) data[to++] = look.shown[from++];
        data[to++] = 255;
      }
    }
    pen.putImageData(image, 0, 0);
  }

  /** The frame stands where the map is. */
  function place() {
    const { first, last } = map.range();
    const { start, span } = map.at();
    node.hidden = map.width() <= map.fit() * 1.001;
    frame.style.left = `${(100 * start) / positions}%`;
    frame.style.width = `${Math.min(100, (100 * span) / positions)}%`;
    node.setAttribute("aria-valuenow", first);
    node.setAttribute("aria-valuetext", `${data.rows ? "columns" : "tokens"} ${first} to ${last - 1} of ${positions}`);
  }

  let grip = null;
  const under = (event) => {
    const box = node.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * positions;
  };
  node.addEventListener("pointerdown", (event) => {
    const { start, span } = map.at();
    const held = under(event) - start;
    grip = held >= 0 && held <= span ? held : span / 2;
    node.setPointerCapture(event.pointerId);
    map.scrollTo(under(event) - grip);
  });
  node.addEventListener("pointermove", (event) => grip !== null && map.scrollTo(under(event) - grip));
  node.addEventListener("lostpointercapture", () => (grip = null));
  node.addEventListener("keydown", (event) => {
    const { start, span } = map.at();
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -span, PageDown: span, Home: -positions, End: positions }[event.key];
    if (step === undefined || !alone(event)) return;
    event.preventDefault();
    map.scrollTo(clamp(start + step, 0, positions));
  });
  return { node, canvas, paint, place };
}

/** How much of the visible tokens' probability each language has, at every layer: one drawing, named row by row. */
export function makeShares(data, map, look) {
  const bars = Array.from({ length: data.layers }, () => el("div", { class: "share", role: "img" }));
  const canvas = el("canvas", { "aria-hidden": "true" });
  const node = el("div", { class: "shares" }, ...[...bars].reverse(), canvas);
  const listed = [...data.order, ...(data.groups.unknown < 0 ? [] : [data.groups.unknown])];
  let wide = 0;
  let waiting = 0;
  node.style.setProperty("--row", `${map.height}px`);

  /** `resized`: its place may have another size by now. */
  function draw(resized) {
    const ratio = devicePixelRatio || 1;
    const range = map.range();
    if (resized || !wide) {
      wide = node.clientWidth;
      [canvas.width, canvas.height] = [Math.round(wide * ratio), Math.round(data.layers * map.height * ratio)];
    }
    const pen = canvas.getContext("2d");
    const fills = listed.map((g) => css(hue(data, look.theme, g)));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, wide, data.layers * map.height);
    bars.forEach((_, layer) => {
      const sums = shares(data, layer, range.first, range.last);
      let [done, from] = [0, 0];
      listed.forEach((g, i) => {
        done += wide * sums[g];
        const to = Math.round(done * ratio) / ratio; // whole pixels leave no seams
        pen.fillStyle = fills[i];
        pen.fillRect(from, map.top(layer), to - from, map.height - 1);
        from = to;
      });
    });
    // Words take longer than the drawing, and nobody reads them while the map moves.
    clearTimeout(waiting);
    if (!bars[0].title) name(range);
    else waiting = setTimeout(name, 200, range);
  }

  function name({ first, last }) {
    bars.forEach((bar, layer) => {
      const sums = shares(data, layer, first, last);
      const found = listed.filter((g) => sums[g] >= 0.005).sort((a, b) => sums[b] - sums[a]);
      const below = 1 - listed.reduce((sum, g) => sum + sums[g], 0);
      const words = found.map((g) => `${data.groups.titles[g]} ${percent(sums[g])}`);
      words.push(`below the ${data.k} stored tokens ${percent(Math.max(0, below))}`);
      bar.setAttribute("aria-label", `${data.names[layer]}: ${words.join(", ")}`);
      bar.title = [`${data.names[layer]}, tokens ${first} to ${last - 1}`, ...words].join("\n");
    });
  }
  return { node, draw };
}
