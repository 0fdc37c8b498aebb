// Pictures and sound above the map: what each patch and each moment reads as at one layer, in the map's own colours.

import { alone, clamp, el, fill, token } from "./dom.js";
import { cell } from "./data.js";
import { css } from "./colour.js";

const WORD = 26;
const LARGEST = 64;
const [WAVE, LANE] = [88, 26];

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
  const pictures = () => parts.flatMap((part) => part.shown?.() ?? []);
  return { node, react, pictures };
}

/** Keys and pointer of a part; `near` finds the place under the pointer, `step` the one beside another. */
function listen(node, part, { data, store, look, layer, say }, { near, step, box }) {
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

function dress({ data, store, look, layer }, pos) {
  const i = layer() * data.positions + pos;
  const missed = Boolean(look.found && !look.found.ranks.has(i));
  return {
    word: cell(data, layer(), pos)[0]?.text ?? "", rgb: missed ? look.theme.ground : [...look.colours.subarray(3 * i, 3 * i + 3)],
    missed, hit: Boolean(look.found) && !missed, pinned: store.state.pins.includes(pos),
  };
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

function makeSound(part, shared) {
  const { store, look } = shared;
  const wave = part.source && samples(part.source);
  const seconds = part.ends.at(-1);
  const canvas = el("canvas", { class: "wave", "aria-hidden": "true" });
  const lane = el("div", { class: "lane" });
  const head = el("div", { class: "playhead", hidden: "" });
  const ring = el("div", { class: "ring", hidden: "" });
  const track = el("div", {
    class: "track", tabindex: "0", role: "group",
    "aria-label": `${part.name}, ${part.positions.length} moments. Arrow keys move, Enter pins, page keys change the layer`,
  }, canvas, lane, head, ring);
  const player = part.source && new Audio(`data:audio/wav;base64,${part.source}`);
  const time = el("output", { class: "note" });
  const play = el("button", { type: "button", class: "play", onclick: () => (player.paused ? player.play() : player.pause()) }, "▶ play");
  const length = `${seconds.toFixed(2)} s in ${part.positions.length} positions`;
  const caption = el("figcaption", {}, `${part.name} `, el("span", { class: "note" }, length), ...(player ? [play, time] : []));
  const node = el("figure", { class: "sound" }, caption, track, el("div", { class: "seconds", "aria-hidden": "true" }, ...ticks(seconds)));
  const left = (second) => (100 * second) / seconds;

  function draw() {
    const width = track.clientWidth || 800;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(WAVE * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const looks = part.positions.map((pos) => dress(shared, pos));
    looks.forEach(({ rgb, pinned }, place) => {
      const [from, to] = [part.times[place], part.ends[place]].map((second) => (width * second) / seconds);
      pen.fillStyle = css(rgb);
      pen.fillRect(from, 0, Math.max(0.5, to - from - (to - from > 6 ? 1 : 0)), WAVE);
      pen.fillStyle = look.theme.ink;
      if (pinned) pen.fillRect(from, WAVE - 3, Math.max(2, to - from), 3);
    });
    if (wave) drawWave(pen, wave, width, look.theme);
    lane.replaceChildren(...runs(looks, part, width / seconds));
  }

  function mark() {
    const at = store.state.hover ?? store.state.at;
    const place = part.positions.indexOf(at?.pos);
    ring.hidden = place < 0;
    if (place < 0) return;
    ring.style.left = `${left(part.times[place])}%`;
    ring.style.width = `max(3px, ${left(part.ends[place] - part.times[place])}%)`;
  }

  const second = (event) => {
    const { left: from, width } = track.getBoundingClientRect();
    return clamp((event.clientX - from) / width, 0, 0.99999) * seconds;
  };
  const at = (moment) => {
    const place = part.ends.findIndex((end) => moment < end);
    return place < 0 || moment < part.times[place] ? null : place;
  };
  const step = (place, key) => ({ ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: part.positions.length - 1 })[key];
  const box = (place) => {
    const { left: from, width, top, bottom } = track.getBoundingClientRect();
    return { left: from + (width * part.times[place]) / seconds, right: from + (width * part.ends[place]) / seconds, top, bottom };
  };
  listen(track, part, shared, { near: (event) => at(second(event)), step, box });
  track.addEventListener("click", (event) => {
    const place = at(second(event));
    if (player && event.target === canvas) player.currentTime = second(event);
    else if (place !== null && getSelection().isCollapsed) look.pin(part.positions[place]);
  });

  function follow() {
    const now = player.currentTime;
    const place = at(Math.min(now, seconds - 1e-6));
    head.hidden = now === 0;
    head.style.left = `${left(Math.min(now, seconds))}%`;
    fill(time, `${now.toFixed(2)} s ${place === null ? "" : dress(shared, part.positions[place]).word}`);
    play.textContent = player.paused ? "▶ play" : "❚❚ pause";
    if (!player.paused) requestAnimationFrame(follow);
  }
  if (player) for (const name of ["play", "pause", "seeked", "ended"]) player.addEventListener(name, follow);
  return { node, draw, mark };
}

/** Neighbouring moments that read alike share one word, so that short ones can be read. */
function runs(looks, part, scale) {
  const found = [];
  looks.forEach(({ word, hit, missed }, place) => {
    const last = found.at(-1);
    if (last && last.word === word && last.hit === hit) last.to = place;
    else found.push({ word, hit, missed, from: place, to: place });
  });
  return found.map(({ word, hit, missed, from, to }) => {
    const [start, end] = [part.times[from], part.ends[to]];
    const node = el("div", { class: `run${hit ? " hit" : ""}${missed ? " missed" : ""}`, "data-from": from, "data-to": to, title: word });
    node.style.left = `${(100 * start) / part.ends.at(-1)}%`;
    node.style.width = `${(100 * (end - start)) / part.ends.at(-1)}%`;
    if ((end - start) * scale >= WORD) node.append(token(word));
    return node;
  });
}

/** The samples of a WAV of 16 bits, behind its 44 bytes of header. */
function samples(source) {
  const raw = atob(source);
  const bytes = new Uint8Array(raw.length - 44);
  for (let i = 0; i < bytes.length; i++) bytes[i] = raw.charCodeAt(i + 44);
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

function drawWave(pen, wave, width, theme) {
  let peak = 1;
  for (const value of wave) peak = Math.max(peak, Math.abs(value));
  pen.fillStyle = theme.ink;
  pen.globalAlpha = 0.75;
  for (let x = 0; x < width; x++) {
    let [low, high] = [0, 0];
    const end = Math.floor(((x + 1) / width) * wave.length);
    for (let i = Math.floor((x / width) * wave.length); i < end; i++) {
      low = Math.min(low, wave[i]);
      high = Math.max(high, wave[i]);
    }
    const y = (value) => WAVE / 2 - (value / peak) * (WAVE / 2 - 6);
    pen.fillRect(x, y(high), 1, Math.max(1, y(low) - y(high)));
  }
  pen.globalAlpha = 1;
}

function ticks(seconds) {
  const every = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60].find((step) => seconds / step <= 10) ?? 300;
  return Array.from({ length: Math.floor((0.97 * seconds) / every) + 1 }, (_, i) => {
    const tick = el("span", {}, `${Number((i * every).toFixed(2))} s`);
    tick.style.left = `${(100 * i * every) / seconds}%`;
    return tick;
  });
}
