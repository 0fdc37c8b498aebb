// What a picture and a sound have in common: keys and pointer, and how a patch or a moment looks.

import { alone, clamp } from "./dom.js";
import { cell } from "./data.js";

/** Keys and pointer of a part; `near` finds the place under the pointer, `step` the one beside another. */
export function listen(node, part, { data, store, look, layer, say }, { near, step, box }) {
  const seen = (place, more) => {
    const at = { layer: layer(), pos: part.positions[place] };
    store.set({ hover: { ...at, box: () => box(place) }, ...more?.(at) });
    return at;
  };
  node.addEventListener("pointermove", (event) => {
    const place = near(event);
    const { hover } = store.state;
    if (place === null) store.set({ hover: null });
    else if (hover?.pos !== part.positions[place] || hover.layer !== layer()) seen(place);
  });
  node.addEventListener("pointerleave", () => store.set({ hover: null }));
  node.addEventListener("blur", () => store.set({ hover: null }));
  node.addEventListener("keydown", (event) => {
    if (!alone(event)) return;
    const place = Math.max(0, part.positions.indexOf(store.state.at?.pos));
    const up = { PageUp: 1, PageDown: -1 }[event.key];
    const next = step(place, event.key);
    if (event.key === "Enter") look.pin(part.positions[place]);
    else if (up) store.set({ layer: clamp(layer() + up, 0, data.layers - 1), hover: null });
    else if (next !== undefined) say(seen(clamp(next, 0, part.positions.length - 1), (at) => ({ at })));
    else return;
    event.preventDefault();
  });
}

/** A cell's colour without the ground under it, so that a picture shows through where the colour is weak. */
export function lifted(rgb, ground) {
  const shares = rgb.map((value, i) => (value < ground[i] ? (ground[i] - value) / ground[i] : (value - ground[i]) / (255 - ground[i] || 1)));
  const alpha = Math.max(...shares);
  if (alpha < 0.01) return "transparent";
  return `rgba(${rgb.map((value, i) => clamp(Math.round((value - (1 - alpha) * ground[i]) / alpha), 0, 255))},${alpha.toFixed(3)})`;
}

export function dress({ data, store, look, layer }, pos) {
  const i = layer() * data.positions + pos;
  const missed = Boolean(look.found && !look.found.ranks.has(i));
  return {
    word: cell(data, layer(), pos)[0]?.text ?? "", rgb: missed ? look.theme.ground : [...look.colours.subarray(3 * i, 3 * i + 3)],
    missed, hit: Boolean(look.found) && !missed, pinned: store.state.pins.includes(pos),
  };
}
