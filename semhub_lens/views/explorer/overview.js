// All tokens by all layers as one picture, to move by; and the share of languages at every layer.

import { clamp, el, percent } from "./dom.js";
import { shares } from "./data.js";
import { css, hue } from "./colour.js";

export function makeOverview(data, store, look, map) {
  const { layers, positions } = data;
  const canvas = el("canvas", { class: "whole", "aria-hidden": "true" });
  canvas.width = positions;
  canvas.height = layers;
  const frame = el("div", { class: "frame" });
  const node = el("div", {
    class: "overview", role: "scrollbar", tabindex: "0", "aria-label": "Overview of all tokens; arrow keys move",
    "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": positions - 1,
  }, canvas, frame);

  function paint() {
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(positions, layers);
    for (let i = 0; i < layers * positions; i++) {
      const to = 4 * ((layers - 1 - Math.floor(i / positions)) * positions + (i % positions));
      image.data.set(look.colours.subarray(3 * i, 3 * i + 3), to);
      image.data[to + 3] = look.found && !look.found.ranks.has(i) ? 50 : 255;
    }
    pen.putImageData(image, 0, 0);
  }

  function place() {
    const { first, last } = map.range();
    node.hidden = map.width() <= map.fit() * 1.001;
    const { start, span } = map.at();
    frame.style.left = `${(100 * start) / positions}%`;
    frame.style.width = `${Math.min(100, (100 * span) / positions)}%`;
    node.setAttribute("aria-valuenow", first);
    node.setAttribute("aria-valuetext", `tokens ${first} to ${last - 1} of ${positions}`);
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
  node.addEventListener("pointerup", () => (grip = null));
  node.addEventListener("keydown", (event) => {
    const { start, span } = map.at();
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -span, PageDown: span, Home: -positions, End: positions }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    map.scrollTo(clamp(start + step, 0, positions));
  });
  return { node, paint, place };
}

export function makeShares(data, map, look) {
  const bars = Array.from({ length: data.layers }, () => el("div", { class: "share", role: "img" }));
  const node = el("div", { class: "shares" }, ...[...bars].reverse());
  node.style.setProperty("--row", `${map.height}px`);

  function draw() {
    const { first, last } = map.range();
    const listed = [...data.order, ...(data.groups.unknown < 0 ? [] : [data.groups.unknown])];
    bars.forEach((bar, layer) => {
      const sums = shares(data, layer, first, last);
      let done = 0;
      const pieces = listed.map((g) => {
        const from = done;
        done += 100 * sums[g];
        return `${css(hue(data, look.theme, g))} ${from.toFixed(2)}% ${done.toFixed(2)}%`;
      });
      bar.style.background = `linear-gradient(to right, ${pieces.join(", ")}, transparent ${done.toFixed(2)}%)`;
      const words = [...listed].filter((g) => sums[g] >= 0.005).sort((a, b) => sums[b] - sums[a]);
      const text = words.map((g) => `${data.groups.titles[g]} ${percent(sums[g])}`).join(", ");
      const rest = `below the ${data.k} stored tokens ${percent(Math.max(0, 1 - done / 100))}`;
      bar.setAttribute("aria-label", `${data.names[layer]}: ${text}, ${rest}`);
      bar.title = `${data.names[layer]}, tokens ${first} to ${last - 1}\n${[...text.split(", "), rest].join("\n")}`;
    });
  }
  return { node, draw };
}
