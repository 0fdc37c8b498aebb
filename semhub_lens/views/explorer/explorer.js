// Puts the parts together: one lens, or two with their difference; keys, and what follows when something changes.

import { makeCode } from "./code.js";
import { THEMES, shareScales } from "./colour.js";
import { alone, clamp, el } from "./dom.js";
import { csv, groupTitle, read, shareHues } from "./data.js";
import { difference } from "./difference.js";
import { grid, makeSheets } from "./grid.js";
import { makeMedia, placesOf } from "./media.js";
import { makePane } from "./pane.js";
import { asPng, asSvg, picture } from "./picture.js";
import { findings, makePanel } from "./panel.js";
import { makeStore } from "./store.js";
import { makeToolbar } from "./toolbar.js";

/** The widest page that browsers make small enough for a sheet. */
const PAPER = 1300;

const toggled = (now, one) => (now.includes(one) ? now.filter((other) => other !== one) : [...now, one]);

/**
 * Draw into `root`. `home`: `address` keeps the view in the page's address, `left` is an earlier view, `dark` a test,
 * `asking` takes what is asked of the model: who wrote a token.
 */
export function mount(root, packed, home = {}) {
  const ended = new AbortController();
  const { signal } = ended;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let paper = false;
  const isDark = () => !paper && (home.dark ?? (() => dark.matches))();
  const lenses = packed.rows ? [grid(packed)] : (packed.sides ?? [packed]).map(read);
  if (!packed.rows) {
    shareScales(lenses);
    shareHues(lenses, home.left?.places, THEMES.light.hues.length);
  }
  const [data] = lenses;
  const store = makeStore(data, packed.colour, { ...home, signal });
  store.state.places = data.places;
  const choose = () => data.choose?.(store.state.sheet);
  choose();
  const two = lenses.length > 1;
  const panes = lenses.map((one, i) => makePane(one, store, { prefix: "cb"[i], name: two ? "AB"[i] : "", pin, pinLayer, asking: asking(i) }));
  const apart = two ? makePane(difference(...lenses), store, { prefix: "d", name: "B minus A", pin }) : null;
  const all = apart ? [...panes, apart] : panes;
  const shown = () => (apart && store.state.show === "difference" ? [apart] : panes);
  const front = () => shown()[0];
  let hits = null;
  let place = null;
  let here = front();
  let asked = null; // the map from which the keyboard went to the search
  const panel = makePanel(panes);
  const spoken = el("div", { class: "spoken", role: "status" });
  const media = data.media ? makeMedia(panes[0], say) : null;
  const code = packed.code ? makeCode(packed.code, store) : null;
  const bar = makeToolbar(store, { front, zoom, step, save, code, sides: two, title, plain: Boolean(data.rows), sheets: data.sheets?.length > 1 ? makeSheets(data, store) : null });
  const stages = el("div", { class: two ? "stages two" : "stages" }, ...all.map((pane) => pane.stage));
  const pinned = el("div", { class: two ? "allpins two" : "allpins" }, ...panes.map((pane) => pane.reads?.node ?? ""), ...panes.map((pane) => pane.pins.node));
  root.replaceChildren(...(home.bare ? [] : [header()]), bar.node, bar.legend, ...(media ? [media.node] : []), stages, pinned, ...(code ? [code.node] : []), foot(), panel.node, spoken);

  /** Of a side: its columns may be other positions of its prompt. */
  function asking(side) {
    return home.asking && { ...home.asking, ask: (pos, id) => home.asking.ask(side, lenses[side].at(pos), id) };
  }

  function title(name) {
    const groups = lenses.map((one) => one.groups).find((one) => one?.names.includes(name));
    return groups.titles[groups.names.indexOf(name)];
  }

  function header() {
    const [name, text, size] = heading();
    return el("header", {}, el("h1", {}, name), text ? el("span", { class: "prompt", dir: "auto" }, text) : "", el("span", { class: "note" }, size));
  }

  /** What is shown, of which text, and its size. */
  function heading() {
    if (data.rows) return [data.title, "", data.size];
    const texts = [...new Set(lenses.map(textOf))];
    const tokens = [...new Set(lenses.map((one) => one.labels.filter((_, pos) => one.at(pos) !== null).length))].join(" | ");
    return [two ? "Two lenses" : "Logit lens", texts.join(" | "), `${tokens} token${tokens === "1" ? "" : "s"} × ${data.layers} layers`];
  }

  /** The prompt without its first mark. */
  function textOf(one) {
    const labels = one.labels.filter((_, pos) => one.at(pos) !== null);
    const from = labels.length > 1 && /^<[^<>]*>$/.test(labels[0]) ? 1 : 0;
    const placed = /((image|audio) \d+)+|(<(image|audio)[^<>]*>)+/g;
    return labels.slice(from, data.media ? undefined : 80).join("").replaceAll("␣", " ").replace(placed, (all, _, name, __, other) => `<${name ?? other}>`);
  }

  function foot() {
    const about = data.about ?? "A cell is what the model would predict after the token below it, if that layer were read out. It shows what can be read through the unembedding, not what the model thinks in.";
    const reads = panes[0].reads;
    const click = `Click a cell to pin its column${reads && !data.media ? ", or a layer's number to read the text there" : ""}.`;
    const typed = `On the map, arrow keys move, Enter pins${reads ? ", L pins the layer, / searches" : ""}. Escape closes what is open.`;
    const { known } = data.groups ?? {};
    const languages = known ? [`The table knows ${known.map((name) => groupTitle(name, data.groups)).join(", ")}. A token of another language is told by its script, or unknown.`] : [];
    const notes = lenses.map((one, i) => (two ? `${"AB"[i]}: ${one.note}` : one.note));
    return el("footer", {}, ...[`${click} ${typed}`, about, ...languages, ...new Set(notes)].map((line) => el("p", { class: "note" }, line)));
  }

  /** From the whole text on screen (0) to the widest columns (1). */
  function zoom(share) {
    const { map } = front();
    map.zoom(map.fit() * (map.WIDEST / map.fit()) ** share);
  }

  function refind() {
    hits = null;
    place = null;
    if (bar.box.value !== store.state.find) bar.box.value = store.state.find;
    for (const pane of shown()) if (pane.look.found) hits = [...(hits ?? []), ...pane.look.found.cells.map((i) => ({ pane, i }))];
    findings(bar.count, hits, null);
  }

  function step(by) {
    if (!hits?.length) return;
    place = place === null ? (by > 0 ? 0 : hits.length - 1) : (place + by + hits.length) % hits.length;
    findings(bar.count, hits, place);
    const { pane, i } = hits[place];
    go(pane, { layer: Math.floor(i / data.positions), pos: i % data.positions });
  }

  function go(pane, at) {
    here = pane;
    pane.map.reveal(at);
    store.set({ at, hover: null });
    say(at, pane);
  }

  function say(at, pane = panes[0]) {
    spoken.textContent = pane.map.sentence(at);
  }

  function pin(pos) {
    store.set({ pins: toggled(store.state.pins, pos) });
  }

  function pinLayer(layer) {
    store.set({ rows: toggled(store.state.rows, layer) });
  }

  /** All numbers as CSV, or what is on screen as a picture. */
  async function save(kind) {
    if (kind === "csv")
      return lenses.forEach((one, i) => keep(new Blob([one.table?.() ?? csv(one, media ? placesOf(data) : undefined)], { type: "text/csv" }), two ? `lens_${"ab"[i]}.csv` : "lens.csv"));
    const [name, text] = heading();
    const mono = getComputedStyle(bar.node).getPropertyValue("--mono").trim();
    const drawn = picture(shown(), { title: name, text, legend: bar.legend, mono, media: media?.shown() });
    return keep(kind === "svg" ? asSvg(drawn) : await asPng(drawn), `lens.${kind}`);
  }

  function keep(blob, name) {
    const href = URL.createObjectURL(blob);
    el("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  }

  function keys(event, pane) {
    if (!alone(event)) return;
    const at = store.state.at ?? { layer: data.layers - 1, pos: pane.map.range().first };
    const moves = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0],
      Home: [0, -data.positions], End: [0, data.positions], PageUp: [5, 0], PageDown: [-5, 0],
    };
    const move = moves[event.key];
    if (move) {
      const begun = store.state.at !== null;
      const layer = clamp(at.layer + (begun ? move[0] : 0), 0, data.layers - 1);
      go(pane, { layer, pos: clamp(at.pos + (begun ? move[1] : 0), 0, data.positions - 1) });
    } else if (event.key === "Enter" || event.key === " ") pin(at.pos);
    else if (event.key.toLowerCase() === "l") pinLayer(at.layer);
    else if (event.key === "/") {
      asked = pane;
      bar.box.focus();
    }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Escape closes what is open where the keyboard is, which goes back to where it came from; else the cell's panel. */
  function escape(event) {
    if (event.key !== "Escape" || !alone(event) || event.defaultPrevented) return;
    const held = root.getRootNode().activeElement;
    const map = all.find((pane) => pane.map.scroll === held);
    const card = held?.closest(".pin");
    if (held === bar.box) {
      store.set({ find: "", at: null, hover: null });
      asked?.map.scroll.focus();
    } else if (map || panel.open()) {
      store.set({ at: map || place !== null ? null : store.state.at, hover: null });
      place = null;
    } else if (card && pinned.contains(card)) {
      here.map.scroll.focus({ preventScroll: true });
      if (card.dataset.layer) pinLayer(Number(card.dataset.layer));
      else if (card.dataset.pos) pin(Number(card.dataset.pos));
    } else return;
    event.preventDefault();
    if (root.contains(held)) event.stopPropagation();
  }

  function react(changed) {
    const around = root.getRootNode();
    const held = around.activeElement;
    const keyboard = pinned.contains(held) && held.matches(":focus-visible") && held.closest(".pins");
    if (changed.has("sheet")) {
      choose();
      for (const key of ["theme", "resized", "pins"]) changed.add(key);
    }
    if (changed.has("show")) {
      for (const pane of all) pane.stage.hidden = !shown().includes(pane);
      here = front();
      for (const key of ["theme", "resized", "find", "pins", "layer"]) changed.add(key);
    }
    if (changed.has("colour") || changed.has("theme")) {
      for (const pane of shown()) pane.recolour(isDark());
      bar.draw();
    }
    const moved = ["width", "zoomed", "first", "scrolled", "resized"].some((key) => changed.has(key));
    for (const pane of shown()) pane.react(changed, moved);
    if (["pins", "log", "find", ...(data.rows ? ["at"] : [])].some((key) => changed.has(key))) for (const pane of panes) pane.pins.draw();
    // What is drawn anew loses the keyboard's place.
    if (keyboard && around.activeElement !== held) (held.isConnected ? held : keyboard.querySelector(".close") ?? here.map.scroll).focus({ preventScroll: true });
    media?.react(changed);
    if (changed.has("find")) refind();
    if (moved) bar.sized(front().map);
    const focused = around.activeElement === here.map.scroll || place !== null;
    panel.show(store.state.hover ?? (focused ? store.state.at : null), here.map);
  }

  const watch = new ResizeObserver(() => store.touch("resized"));
  for (const pane of all) {
    const { map, look } = pane;
    look.moved = (left) => shown().forEach((other) => other !== pane && other.map.follow(left));
    const on = (name, act) => map.scroll.addEventListener(name, act);
    let under = null; // a panel that Escape closed stays closed until the pointer is on another cell
    on("pointermove", (event) => {
      const at = map.under(event);
      here = pane;
      if (at?.pos !== under?.pos || at?.layer !== under?.layer) store.set({ hover: at });
      under = at;
    });
    on("pointerleave", () => {
      under = null;
      store.set({ hover: null });
    });
    on("click", (event) => {
      const at = map.under(event);
      if (!at || !getSelection().isCollapsed) return;
      store.set({ at });
      pin(at.pos);
    });
    on("keydown", (event) => keys(event, pane));
    on("focus", () => {
      here = pane;
      store.touch("focused");
    });
    on("blur", () => store.touch("focused"));
    watch.observe(map.scroll);
  }
  bar.box.addEventListener("blur", () => (asked = null));
  root.addEventListener("keydown", escape, { signal });
  document.addEventListener("keydown", escape, { signal });
  document.addEventListener("scroll", () => store.touch("scrolled"), { capture: true, signal });
  addEventListener("resize", () => store.touch("resized"), { signal });
  addEventListener("beforeprint", () => print(true), { signal });
  addEventListener("afterprint", () => print(false), { signal });
  dark.addEventListener("change", () => store.touch("theme"), { signal });
  store.listen(react);
  const { first } = store.state;
  react(new Set(["show"]));
  if (first) front().map.scrollTo(first);

  /** On paper: light, with every row, as wide as on screen; a browser makes what is wider than the paper smaller. */
  function print(on) {
    paper = on;
    root.style.width = on ? `${Math.min(root.clientWidth, PAPER)}px` : "";
    for (const { look } of all) look.paper = on;
    react(new Set(["theme", "resized"]));
  }

  function close() {
    ended.abort();
    watch.disconnect();
    panel.show(null);
  }

  /** What the model says of who wrote which tokens, of every side; without it, how far the asking is. */
  function wrote(sides) {
    lenses.forEach((one, i) => {
      if (sides) one.written = sides[i] ?? [];
      panes[i].pins.refresh?.();
    });
  }
  return { state: store.state, touch: store.touch, close, wrote };
}
