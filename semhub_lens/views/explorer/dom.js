// Elements, and how numbers and tokens are written. Token text reaches the page through text nodes only.

const SVG = "http://www.w3.org/2000/svg";
const NAMED = /([␣↵⇥␍]|U\+[0-9A-F]{4,6}|<0x[0-9A-F]{2}>)/;

function furnish(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function el(tag, props = {}, ...children) {
  return furnish(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), props, children);
}

/** Show a token: blanks, control characters and bytes by name, apart from its real text. */
export function fill(node, text) {
  node.textContent = "";
  text.split(NAMED).forEach((part, i) => {
    if (part) node.append(i % 2 ? el("span", { class: "named" }, part) : part);
  });
  return node;
}

/** A token in its own direction, isolated from what stands beside it. */
export function token(text, name = "token") {
  return fill(el("bdi", { dir: "auto", class: name || "token" }), text);
}

/** Three significant digits, as many as the page holds. */
export function percent(p) {
  if (Number.isNaN(p)) return "not measured";
  if (p < 1e-5) return p === 0 ? "< 1e-70 %" : `${(100 * p).toExponential(2)} %`;
  return `${p >= 0.9995 ? "100" : (100 * p).toPrecision(3)} %`;
}

export function number(value) {
  if (!Number.isFinite(value)) return "not measured";
  if (value < 0) return `−${number(-value)}`;
  return value >= 0.001 && value < 1000 ? value.toPrecision(3) : value === 0 ? "0" : value.toExponential(2);
}

/** A key of ours; with another one held it is the browser's, as Alt and an arrow go back. */
export const alone = (event) => !(event.ctrlKey || event.metaKey || event.altKey);

/** A part that is closed at first; Escape in it closes it again, and the keyboard is back at its title. */
export function folded(props, title, ...children) {
  const head = el("summary", {}, title);
  const node = el("details", { ...props, onkeydown: (event) => {
    if (event.key !== "Escape" || !alone(event) || !node.open) return;
    node.open = false;
    head.focus();
    event.preventDefault();
    event.stopPropagation();
  } }, head, ...children);
  return node;
}

export function layerName(entry) {
  return entry === 0 ? "embedding" : `layer ${entry}`;
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
