// What is stored of one cell, beside it.

import { clamp, el, fill, layerName, number, percent, token } from "./dom.js";
import { cell, language } from "./data.js";
import { css, hue } from "./colour.js";

export function makePanel(data, look, map) {
  const node = el("div", { class: "panel", role: "tooltip", hidden: "" });

  function line(one) {
    const bar = el("i", { class: "bar" });
    bar.style.width = `${100 * (one.p || 0)}%`;
    if (data.groups) bar.style.background = css(hue(data, look.theme, data.groups.main[one.entry]));
    return el("tr", {},
      el("td", { class: "what" }, token(one.text)),
      el("td", { class: "much" }, bar),
      el("td", { class: "p" }, data.prob ? percent(one.p) : ""),
      el("td", { class: "whose" }, language(data, one.entry)),
      el("td", { class: "id" }, `#${one.id}`));
  }

  function show(at) {
    node.hidden = !at;
    if (!at) return;
    const { layer, pos } = at;
    const head = el("p", { class: "where" }, `${layerName(layer)} · position ${pos} · after `, token(data.labels[pos]));
    const numbers = data.quantities.map(({ label, unit, values }) =>
      el("span", {}, `${label} `, el("b", {}, number(values[layer * data.positions + pos])), ` ${unit}`));
    const facts = el("p", { class: "facts" }, ...numbers);
    if (data.stays) facts.append(el("span", {}, "answer stays from ", el("b", {}, layerName(data.stays[pos]))));
    node.replaceChildren(head, el("table", {}, el("tbody", {}, ...cell(data, layer, pos).map(line))), facts);
    place(at.box?.() ?? map.box(at));
  }

  function place(box) {
    const [w, h] = [node.offsetWidth, node.offsetHeight];
    const right = box.right + 12;
    const left = right + w <= innerWidth ? right : box.left - 12 - w;
    node.style.left = `${clamp(left, 4, Math.max(4, innerWidth - w - 4))}px`;
    node.style.top = `${clamp(box.top - 20, 4, Math.max(4, innerHeight - h - 4))}px`;
  }
  return { node, show };
}

/** What was found, in words. */
export function findings(node, found, place) {
  if (!found) return fill(node, "");
  if (!found.cells.length) return fill(node, "in no stored cell");
  const at = place === null ? "" : `${place + 1} of `;
  return fill(node, `${at}${found.cells.length} cell${found.cells.length === 1 ? "" : "s"}`);
}
