// Puts the parts together: toolbar, legend, keys, and what follows when something changes.

import { clamp, el, percent } from "./dom.js";
import { csv, read, search } from "./data.js";
import { THEMES, colourings, css, hue, painted, stops } from "./colour.js";
import { makeMap } from "./map.js";
import { makeOverview, makeShares } from "./overview.js";
import { makeMedia } from "./media.js";
import { findings, makePanel } from "./panel.js";
import { makePins } from "./pins.js";
import { makeStore } from "./store.js";

export function mount(root, packed) {
  const data = read(packed);
  const kinds = colourings(data);
  const store = makeStore(data, packed.colour);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const look = { theme: THEMES.light, colours: null, found: null, pin };
  const map = makeMap(data, store, look);
  const overview = makeOverview(data, store, look, map);
  const panel = makePanel(data, look, map);
  const pins = makePins(data, store, look);
  const shares = data.mass && data.order.length > 1 ? makeShares(data, map, look) : null;
  const spoken = el("div", { class: "spoken", role: "status" });
  const legend = el("div", { class: "legend" });
  const say = (at) => (spoken.textContent = map.sentence(at));
  const media = data.media ? makeMedia(data, store, look, map, say) : null;
  const count = el("output", { class: "count" });
  const bar = toolbar();
  const stage = el("div", { class: shares ? "stage" : "stage alone" },
    el("div", { class: "corner" }, "layer"), el("div", { class: "above" }, overview.node),
    el("div", { class: "corner" }, shares ? "share of probability" : ""),
    map.names, map.scroll, shares ? shares.node : el("div"),
    el("div", { class: "corner foot" }, "input"), map.tokens, el("div", { class: "corner foot" }));
  stage.style.setProperty("--most", `${data.positions * map.WIDEST}px`);
  root.replaceChildren(header(), bar.node, legend, ...(media ? [media.node] : []), stage, pins.node, foot(), panel.node, spoken);
  const kind = () => kinds.find((one) => one.name === store.state.colour) ?? kinds[0];

  function header() {
    const text = el("span", { class: "prompt", dir: "auto" });
    const labels = data.labels.slice(/^<[^<>]*>$/.test(data.labels[0]) && data.positions > 1 ? 1 : 0, data.media ? undefined : 80);
    const media = /((image|audio) \d+)+|(<(image|audio)[^<>]*>)+/g;
    text.append(labels.join("").replaceAll("␣", " ").replace(media, (all, _, name, __, other) => `<${name ?? other}>`));
    const size = `${data.positions} tokens × ${data.layers} layers`;
    return el("header", {}, el("h1", {}, "Logit lens"), text, el("span", { class: "note" }, size));
  }

  function foot() {
    const lines = ["A cell is what the model would predict after the token below it, if that layer were read out. It shows what can be read through the unembedding, not what the model thinks in.", packed.note];
    return el("footer", {}, ...lines.map((line) => el("p", { class: "note" }, line)));
  }

  function toolbar() {
    const buttons = kinds.map((one) => el("button", {
      type: "button", role: "radio", "data-colour": one.name, onclick: () => store.set({ colour: one.name }),
    }, one.label));
    const colours = el("div", { class: "segmented", role: "radiogroup", "aria-label": "Colour by", onkeydown: roving }, ...buttons);
    const size = el("input", {
      type: "range", min: "0", max: "100", class: "zoom", "aria-label": "Width of a column",
      oninput: () => map.zoom(map.fit() * (map.WIDEST / map.fit()) ** (size.value / 100)),
    });
    const whole = el("button", { type: "button", class: "whole-text", onclick: () => map.zoom(map.fit()) }, "whole text");
    const box = el("input", {
      type: "search", class: "find", placeholder: "find a word or id", "aria-label": "Find a word or token id",
      oninput: () => store.set({ find: box.value }), onkeydown: (event) => event.key === "Enter" && step(event.shiftKey ? -1 : 1),
    });
    const to = (by, name, sign) => el("button", { type: "button", class: "step", "aria-label": name, onclick: () => step(by) }, sign);
    const save = el("button", { type: "button", onclick: download }, "CSV");
    const node = el("div", { class: "toolbar" }, colours,
      el("span", { class: "group" }, size, whole),
      el("span", { class: "group" }, box, to(-1, "previous", "‹"), to(1, "next", "›"), count), save);
    return { node, buttons, size, whole, box };
  }

  /** Arrow keys choose among the colours, as in any group of radio buttons. */
  function roving(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = kinds[(kinds.indexOf(kind()) + by + kinds.length) % kinds.length];
    store.set({ colour: next.name });
    bar.buttons[kinds.indexOf(next)].focus();
  }

  function recolour() {
    look.theme = dark.matches ? THEMES.dark : THEMES.light;
    look.colours = painted(data, kind(), look.theme);
    for (const button of bar.buttons) {
      const on = button.dataset.colour === kind().name;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    drawLegend();
  }

  function drawLegend() {
    const one = kind();
    const parts = [el("span", { class: "words" }, one.words)];
    if (one.scale) parts.push(scale(one));
    if (one.name === "language" || shares) parts.push(...(one.scale ? ["Bars:"] : []), ...chips());
    legend.replaceChildren(...parts);
  }

  function chips() {
    const chip = (colour, name) => {
      const swatch = el("i", { class: "chip" });
      swatch.style.background = css(colour);
      return el("span", { class: "entry" }, swatch, name);
    };
    const named = look.theme.hues.length;
    const found = data.order.slice(0, named).map((g) => chip(hue(data, look.theme, g), data.groups.titles[g]));
    const rest = data.order.slice(named).map((g) => data.groups.titles[g]);
    if (rest.length) found.push(chip(look.theme.other, rest.length > 3 ? `${rest.length} others` : rest.join(", ")));
    return [...found, chip(look.theme.grey, "unknown or shared")];
  }

  function scale(one) {
    const strip = el("i", { class: "ramp" });
    strip.style.background = `linear-gradient(to right, ${stops(one, look.theme).join(", ")})`;
    if (!one.scale.ticks) return el("span", { class: "entry" }, one.scale.from, strip, one.scale.to);
    const ticks = one.scale.ticks.map((p) => {
      const tick = el("span", { class: "tick" }, percent(p).replace(/\.0+ /, " "));
      tick.style.left = `${100 * Math.sqrt(p)}%`;
      return tick;
    });
    return el("span", { class: "entry ticked" }, el("span", { class: "rampbox" }, strip, ...ticks));
  }

  function refind() {
    look.found = search(data, store.state.find);
    look.place = null;
    if (bar.box.value !== store.state.find) bar.box.value = store.state.find;
    findings(count, look.found, null);
  }

  function step(by) {
    const cells = look.found?.cells ?? [];
    if (!cells.length) return;
    look.place = look.place === null ? (by > 0 ? 0 : cells.length - 1) : (look.place + by + cells.length) % cells.length;
    findings(count, look.found, look.place);
    const at = cells[look.place];
    go({ layer: Math.floor(at / data.positions), pos: at % data.positions });
  }

  function go(at) {
    map.reveal(at);
    store.set({ at, hover: null });
    say(at);
  }

  function pin(pos) {
    const { pins: now } = store.state;
    store.set({ pins: now.includes(pos) ? now.filter((one) => one !== pos) : [...now, pos] });
  }

  function download() {
    const link = el("a", { href: URL.createObjectURL(new Blob([csv(data)], { type: "text/csv" })), download: "lens.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function keys(event) {
    const at = store.state.at ?? { layer: data.layers - 1, pos: map.range().first };
    const moves = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0],
      Home: [0, -data.positions], End: [0, data.positions], PageUp: [5, 0], PageDown: [-5, 0],
    };
    const move = moves[event.key];
    if (move) {
      const begun = store.state.at !== null;
      const layer = clamp(at.layer + (begun ? move[0] : 0), 0, data.layers - 1);
      go({ layer, pos: clamp(at.pos + (begun ? move[1] : 0), 0, data.positions - 1) });
    } else if (event.key === "Enter" || event.key === " ") pin(at.pos);
    else if (event.key === "Escape") store.set({ at: null, hover: null });
    else if (event.key === "/") bar.box.focus();
    else return;
    event.preventDefault();
  }

  function react(changed) {
    if (changed.has("find")) refind();
    if (changed.has("colour") || changed.has("theme")) recolour();
    if (["find", "colour", "theme"].some((key) => changed.has(key))) overview.paint();
    if (["width", "zoomed", "first", "scrolled", "resized"].some((key) => changed.has(key))) {
      map.draw(changed.has("resized"));
      overview.place();
      bar.whole.disabled = map.width() <= map.fit() * 1.001;
      bar.size.disabled = map.fit() >= map.WIDEST;
      if (!bar.size.disabled) bar.size.value = (100 * Math.log(map.width() / map.fit())) / Math.log(map.WIDEST / map.fit());
      shares?.draw();
    }
    if (["find", "colour", "theme", "pins"].some((key) => changed.has(key))) map.redress();
    if (changed.has("theme")) shares?.draw();
    if (changed.has("pins") || changed.has("log")) {
      pins.draw();
      map.draw(false);
    }
    if (changed.has("at")) map.draw(false);
    map.mark();
    media?.react(changed);
    panel.show(store.state.hover ?? (document.activeElement === map.scroll || look.place !== null ? store.state.at : null));
  }

  map.scroll.addEventListener("pointermove", (event) => {
    const at = map.under(event);
    const { hover } = store.state;
    if (at?.pos !== hover?.pos || at?.layer !== hover?.layer) store.set({ hover: at });
  });
  map.scroll.addEventListener("pointerleave", () => store.set({ hover: null }));
  map.scroll.addEventListener("click", (event) => {
    const at = map.under(event);
    if (!at || !getSelection().isCollapsed) return;
    store.set({ at });
    pin(at.pos);
  });
  map.scroll.addEventListener("keydown", keys);
  map.scroll.addEventListener("focus", () => store.touch("focused"));
  map.scroll.addEventListener("blur", () => store.touch("focused"));
  document.addEventListener("scroll", () => store.touch("scrolled"));
  new ResizeObserver(() => store.touch("resized")).observe(map.scroll);
  addEventListener("resize", () => store.touch("resized"));
  dark.addEventListener("change", () => store.touch("theme"));
  store.listen(react);
  refind();
  recolour();
  const { first } = store.state;
  react(new Set(["theme", "resized", "find", "pins", "layer"]));
  if (first) map.scrollTo(first);
}

mount(document.getElementById("explorer"), JSON.parse(document.getElementById("data").textContent));
