// What is shown, in one place; kept in the page's fragment, so that a saved page opens where it was left.

const KEYS = { show: "s", colour: "c", width: "w", first: "x", at: "at", pins: "p", find: "q", log: "log", rows: "r", layer: "l", sheet: "h" };

/**
 * `left` is the state of an earlier view in the same place; without an address of its own nothing is read or kept.
 * `view` is how a page opens whose address says nothing.
 */
export function makeStore(data, initial, { address = false, left = {}, view = "", signal } = {}) {
  const fresh = () => ({ colour: initial, width: null, first: 0, at: null, pins: [], rows: [], find: "", log: false, layer: null, sheet: 0, show: "both", written: {} });
  const found = address ? fromHash(new URLSearchParams(location.hash.slice(1) || view), data) : fitting(left, data);
  const state = { ...fresh(), hover: null, ...found };
  const listeners = [];
  let changed = new Set();
  let waiting = 0;
  let saving = 0;

  function flush() {
    waiting = 0;
    const now = changed;
    changed = new Set();
    for (const listener of listeners) listener(now);
    clearTimeout(saving);
    if (address) saving = setTimeout(save, 200);
  }

  /** What is shown, as it stands in an address; all that is as at first is left out. */
  const hash = () => toHash(state, initial);

  function save() {
    const now = hash() || (view && `${KEYS.colour}=${initial}`);
    if (now === location.hash.slice(1)) return;
    try {
      history.replaceState(null, "", `#${now}`);
    } catch {
      // A sandboxed frame has no address of its own.
    }
  }

  function set(patch) {
    for (const [key, value] of Object.entries(patch)) if (state[key] !== value) changed.add(key);
    Object.assign(state, patch);
    if (changed.size && !waiting) waiting = requestAnimationFrame(flush);
  }

  const reread = () => set({ ...fresh(), ...fromHash(new URLSearchParams(location.hash.slice(1)), data) });
  if (address) addEventListener("hashchange", reread, { signal });
  return { state, hash, set, listen: (listener) => listeners.push(listener), touch: (key) => set({ [key]: {} }) };
}

function toHash(state, initial) {
  const params = new URLSearchParams();
  if (state.show !== "both") params.set(KEYS.show, state.show);
  if (state.colour !== initial) params.set(KEYS.colour, state.colour);
  if (state.width !== null) params.set(KEYS.width, state.width.toFixed(1));
  if (state.first >= 1) params.set(KEYS.first, Math.round(state.first));
  if (state.at) params.set(KEYS.at, `${state.at.layer},${state.at.pos}`);
  if (state.pins.length) params.set(KEYS.pins, state.pins.join(","));
  if (state.rows.length) params.set(KEYS.rows, state.rows.join(","));
  if (state.find) params.set(KEYS.find, state.find);
  if (state.log) params.set(KEYS.log, "1");
  if (state.sheet) params.set(KEYS.sheet, state.sheet);
  if (state.layer !== null) params.set(KEYS.layer, state.layer);
  return params.toString();
}

/** What of a view still exists in another result. */
function fitting({ at, pins = [], rows = [], ...rest }, { layers, positions }) {
  const fits = at && at.layer < layers && at.pos < positions;
  return { ...rest, hover: null, at: fits ? at : null, pins: pins.filter((pin) => pin < positions), rows: rows.filter((row) => row < layers) };
}

/** Only what exists is taken over: a fragment may come from another page. */
function fromHash(params, data) {
  const found = {};
  if (params.get(KEYS.show) === "difference") found.show = "difference";
  const whole = (text, below) => (/^\d+$/.test(text ?? "") && Number(text) < below ? Number(text) : null);
  if (params.has(KEYS.colour)) found.colour = params.get(KEYS.colour);
  const width = Number(params.get(KEYS.width));
  if (width > 0 && width < 1000) found.width = width;
  found.first = whole(params.get(KEYS.first), data.positions) ?? 0;
  const [layer, pos] = (params.get(KEYS.at) ?? "").split(",");
  if (whole(layer, data.layers) !== null && whole(pos, data.positions) !== null)
    found.at = { layer: Number(layer), pos: Number(pos) };
  const listed = (key, below) => [...new Set((params.get(key) ?? "").split(",").map((text) => whole(text, below)).filter((one) => one !== null))];
  found.pins = listed(KEYS.pins, data.positions);
  found.rows = listed(KEYS.rows, data.layers);
  found.find = params.get(KEYS.find) ?? "";
  found.log = params.get(KEYS.log) === "1";
  found.sheet = whole(params.get(KEYS.sheet), data.sheets?.length ?? 1) ?? 0;
  found.layer = whole(params.get(KEYS.layer), data.layers);
  return found;
}
