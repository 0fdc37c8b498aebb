// Pictures and sound above the map: what each patch and each moment reads as at one layer, in the map's own colours.

import { clamp, el, fill, token } from "./dom.js";
import { dress, lifted, listen } from "./part.js";
import { makeSound } from "./sound.js";

const WORD = 26;
const LARGEST = 64;

/** Of the lens that a pane shows; `say` tells a screen reader what a cell holds. */
export function makeMedia({ data, store, look, map }, say) {
  const name = el("output", { class: "layername" });
  const slider = el("input", {
    type: "range", class: "layer", min: "0", max: String(data.layers - 1), "aria-label": "Layer shown",
    oninput: () => store.set({ layer: Number(slider.value) }),
  });
  const layer = () => store.state.layer ?? data.media.layer;
  const shared = { data, store, look, layer, say };
  const parts = data.media.parts.map((part) => (part.kind === "picture" ? makePicture(part, shared) : makeSound(part, shared)));
  const settings = parts[0].settings ?? [];
  const bar = el("div", { class: "mediabar" }, el("label", { class: "group" }, "layer", slider), name, ...settings);
  const node = el("section", { class: "media", "aria-label": "Pictures and sound" }, bar, el("div", { class: "parts" }, ...parts.map((part) => part.node)));
  for (const part of parts) part.join?.(parts);

  map.names.addEventListener("click", (event) => {
    const row = [...map.names.children].indexOf(event.target);
    if (row >= 0) store.set({ layer: data.layers - 1 - row });
  });

  function react(changed) {
    if (changed.has("layer")) {
      slider.value = String(layer());
      slider.setAttribute("aria-valuetext", data.names[layer()]);
      fill(name, `${data.names[layer()]} of ${data.short.at(-1)}`);
      [...map.names.children].forEach((row, i) => row.classList.toggle("chosen", i === data.layers - 1 - layer()));
    }
    const anew = ["find", "colour", "theme", "layer", "pins", "resized", "sized"].some((key) => changed.has(key));
    for (const part of parts) {
      if (anew) part.draw();
      part.mark();
    }
  }
  const shown = () => parts.map((part) => part.shown());
  return { node, react, shown };
}

function makePicture(part, shared) {
  const { store, look } = shared;
  const { rows, columns } = part;
  const patches = part.positions.map((pos) => el("div", { class: "patch", "data-pos": pos }, token("")));
  const grid = el("div", { class: "patches" }, ...patches);
  const image = el("img", { src: `data:image/png;base64,${part.source}`, alt: "", draggable: "false" });
  const board = el("div", {
    class: "board", tabindex: "0", role: "group",
    "aria-label": `${part.name}, ${rows} by ${columns} patches. Arrow keys move, Enter pins, page keys change the layer`,
  }, image, grid);
  const caption = el("figcaption", {}, `${part.name} `, el("span", { class: "note" }, `${rows} × ${columns} patches`));
  const node = el("figure", { class: "picture" }, caption, el("div", { class: "boardbox" }, board));
  const usual = clamp(Math.min(40 * columns, (40 * rows * part.width) / part.height), Math.min(380, (380 * part.width) / part.height), 720);
  let enlarged = 0;
  grid.style.gridTemplate = `repeat(${rows}, minmax(0, 1fr)) / repeat(${columns}, minmax(0, 1fr))`;

  const size = el("input", {
    type: "range", min: "0", max: "100", value: "0", class: "size", "aria-label": "Size of the picture",
    oninput: () => resize(size.value / 100),
  });
  const wash = el("input", {
    type: "range", min: "0", max: "100", value: "55", class: "washing", "aria-label": "Strength of the colours over the picture",
    oninput: () => tint(wash.value / 100),
  });
  let all = [{ enlarge, node }];
  const resize = (share) => all.forEach((one) => one.enlarge(share));
  const tint = (share) => all.forEach((one) => one.node.style.setProperty("--wash", share));
  const join = (parts) => (all = parts);

  function enlarge(share) {
    enlarged = share;
    store.touch("sized");
  }

  function draw() {
    const least = Math.min(usual, node.parentElement.clientWidth || usual); // at first it is seen whole
    const width = least + enlarged * Math.max(0, LARGEST * columns - least);
    board.style.width = `${Math.round(width)}px`;
    board.style.aspectRatio = `${part.width} / ${part.height}`;
    const [across, down] = [width / columns, (width * part.height) / part.width / rows];
    board.classList.toggle("small", across < WORD || down < 13);
    board.classList.toggle("tight", across < 40);
    board.style.fontSize = `${clamp(across / 5.2, 8, 13)}px`;
    patches.forEach((patch, place) => {
      const { word, rgb, missed, hit, pinned } = dress(shared, part.positions[place]);
      fill(patch.firstChild, word);
      patch.style.setProperty("--colour", missed ? "transparent" : lifted(rgb, look.theme.ground));
      for (const [key, on] of Object.entries({ missed, hit, pinned })) patch.classList.toggle(key, on);
    });
  }

  function mark() {
    const at = store.state.hover ?? store.state.at;
    patches.forEach((patch, place) => patch.classList.toggle("seen", part.positions[place] === at?.pos));
  }

  const near = (event) => {
    const place = patches.indexOf(event.target.closest(".patch"));
    return place < 0 ? null : place;
  };
  const step = (place, key) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -(place % columns), End: columns - 1 - (place % columns) }[key];
    const next = place + by;
    return by === undefined ? undefined : next >= 0 && next < patches.length ? next : place;
  };
  listen(board, part, shared, { near, step, box: (place) => patches[place].getBoundingClientRect() });
  board.addEventListener("click", (event) => {
    const place = near(event);
    if (place !== null && getSelection().isCollapsed) look.pin(part.positions[place]);
  });
  /** As it is on screen, to be saved. */
  const shown = () => ({
    name: `${part.name} · ${shared.data.names[shared.layer()]}`, image, rows, columns, width: board.offsetWidth, height: board.offsetHeight,
    wash: Number(node.style.getPropertyValue("--wash") || 0.55), font: parseFloat(board.style.fontSize), readable: !board.classList.contains("small"),
    patches: part.positions.map((pos, place) => ({ ...dress(shared, pos), colour: patches[place].style.getPropertyValue("--colour") })),
  });
  const label = (text, input) => el("label", { class: "group" }, text, input);
  return { node, draw, mark, enlarge, join, shown, settings: [label("size", size), label("colour", wash)] };
}

/** What a table says of a position beside its tokens: where in a picture or a sound it is. */
export function placesOf({ media }) {
  const kind = media.parts[0].kind;
  const of = new Map();
  for (const part of media.parts)
    part.positions.forEach((pos, place) => of.set(pos, kind === "picture"
      ? [part.name, Math.floor(place / part.columns), place % part.columns] : [part.name, part.times[place], part.ends[place]]));
  return { names: kind === "picture" ? ["part", "row", "column"] : ["part", "start", "end"], of: (pos) => of.get(pos) ?? ["", "", ""] };
}
