// Pinned layers: the whole text as such a layer reads it, one word after the other, in the map's colours.

import { el, percent, token } from "./dom.js";
import { css, inkOn } from "./colour.js";

export function makeReadings(data, store, look, pinLayer) {
  const node = el("section", { class: "pins", "aria-label": "Pinned layers" });

  function word(layer, pos) {
    const i = layer * data.positions + pos;
    const entry = data.top[i * data.k];
    if (data.ids[entry] < 0) return "";
    const rgb = [...look.shown.subarray(3 * i, 3 * i + 3)];
    const one = el("button", {
      type: "button", tabindex: "-1", "data-pos": pos, title: `after ${data.labels[pos]}${data.prob ? `: ${percent(data.prob[i * data.k])}` : ""}`, onclick: () => look.pin(pos),
    }, token(data.texts[entry]));
    [one.style.backgroundColor, one.style.color] = [css(rgb), inkOn(...rgb)];
    return one;
  }

  function card(layer) {
    const close = el("button", { type: "button", class: "close", "aria-label": `unpin ${data.names[layer]}`, onclick: () => pinLayer(layer) }, "×");
    const words = Array.from({ length: data.positions }, (_, pos) => word(layer, pos));
    const name = look.name ? el("b", { class: "side" }, look.name) : "";
    return el("figure", { class: "pin reading", "data-layer": layer }, el("figcaption", {}, name, `${data.names[layer]}: the most probable token after each input token`, close),
      el("p", {}, ...words));
  }

  const draw = () => node.replaceChildren(...store.state.rows.map(card));
  return { node, draw };
}
