// A sound: its waveform over the colours of its moments, the words below it, and a player.

import { clamp, el, fill, token } from "./dom.js";
import { css } from "./colour.js";
import { dress, listen } from "./part.js";

/** Pixels that a word needs, and the height of the waveform. */
const [SPOKEN, WAVE] = [26, 88];

export function makeSound(part, shared) {
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
  const node = el("figure", { class: "sound" }, caption, track, el("div", { class: "seconds", "aria-hidden": "true" }, ...ticks(seconds).map((second) => tickNode(second, seconds))));
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
      pen.fillRect(from, 0, momentWide(from, to), WAVE);
      pen.fillStyle = look.theme.ink;
      if (pinned) pen.fillRect(from, WAVE - 3, Math.max(2, to - from), 3);
    });
    if (wave) drawWave(pen, wave, width, look.theme);
    lane.replaceChildren(...runs(looks).map((run) => runNode(run, part, width / seconds)));
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

  /** As it is on screen, to be saved. */
  function shown() {
    const width = track.clientWidth;
    const x = (second) => (width * second) / seconds;
    const looks = part.positions.map((pos) => dress(shared, pos));
    return {
      name: `${part.name} · ${shared.data.names[shared.layer()]}`, width, height: WAVE, wave: wave ? waveform(wave, width) : [],
      moments: looks.map(({ rgb, pinned }, i) => ({ from: x(part.times[i]), wide: momentWide(x(part.times[i]), x(part.ends[i])), fill: css(rgb), pinned })),
      words: runs(looks).map((run) => ({ ...run, from: x(part.times[run.from]), wide: x(part.ends[run.to]) - x(part.times[run.from]) })),
      ticks: ticks(seconds).map((second) => ({ at: x(second), text: inSeconds(second) })),
    };
  }
  return { node, draw, mark, shown };
}

/** Neighbouring moments that read alike share one word, so that short ones can be read. */
function runs(looks) {
  const found = [];
  looks.forEach(({ word, hit, missed }, place) => {
    const last = found.at(-1);
    if (last && last.word === word && last.hit === hit) last.to = place;
    else found.push({ word, hit, missed, from: place, to: place });
  });
  return found;
}

function runNode({ word, hit, missed, from, to }, part, scale) {
  const [start, end] = [part.times[from], part.ends[to]];
  const node = el("div", { class: `run${hit ? " hit" : ""}${missed ? " missed" : ""}`, "data-from": from, "data-to": to, title: word });
  node.style.left = `${(100 * start) / part.ends.at(-1)}%`;
  node.style.width = `${(100 * (end - start)) / part.ends.at(-1)}%`;
  if ((end - start) * scale >= SPOKEN) node.append(token(word));
  return node;
}

/** Of a moment's colour; longer ones leave a gap. */
const momentWide = (from, to) => Math.max(0.5, to - from - (to - from > 6 ? 1 : 0));

/** The samples of a WAV of 16 bits, behind its 44 bytes of header. */
function samples(source) {
  const raw = atob(source);
  const bytes = new Uint8Array(raw.length - 44);
  for (let i = 0; i < bytes.length; i++) bytes[i] = raw.charCodeAt(i + 44);
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

/** How high and how low the sound goes in every pixel of its width. */
function waveform(wave, width) {
  let peak = 1;
  for (const value of wave) peak = Math.max(peak, Math.abs(value));
  const y = (value) => WAVE / 2 - (value / peak) * (WAVE / 2 - 6);
  return Array.from({ length: Math.floor(width) }, (_, x) => {
    let [low, high] = [0, 0];
    const end = Math.floor(((x + 1) / width) * wave.length);
    for (let i = Math.floor((x / width) * wave.length); i < end; i++) {
      low = Math.min(low, wave[i]);
      high = Math.max(high, wave[i]);
    }
    return [y(high), y(low)];
  });
}

function drawWave(pen, wave, width, theme) {
  pen.fillStyle = theme.ink;
  pen.globalAlpha = 0.75;
  waveform(wave, width).forEach(([above, below], x) => pen.fillRect(x, above, 1, Math.max(1, below - above)));
  pen.globalAlpha = 1;
}

function ticks(seconds) {
  const every = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60].find((step) => seconds / step <= 10) ?? 300;
  return Array.from({ length: Math.floor((0.97 * seconds) / every) + 1 }, (_, i) => i * every);
}

const inSeconds = (second) => `${Number(second.toFixed(2))} s`;

function tickNode(second, seconds) {
  const tick = el("span", {}, inSeconds(second));
  tick.style.left = `${(100 * second) / seconds}%`;
  return tick;
}
