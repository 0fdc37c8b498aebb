// What is stored of one cell, beside it; of two lenses, both.

import { clamp, el, fill, number, percent, token } from "./dom.js";
import { cell, language } from "./data.js";
import { css, hue } from "./colour.js";

export function makePanel(panes) {
  const node = el("div", { class: "panel", role: "tooltip", popover: "manual" });

  function line(data, look, one) {
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

  function block({ data, look, name }, { layer, pos }) {
    const where = `${data.names[layer]} · ${data.place(pos)} · after `;
    const head = data.where?.(layer, pos) ?? el("p", { class: "where" }, name ? el("b", { class: "side" }, name) : "", where, token(data.labels[pos]));
    if (data.at?.(pos) === null) return el("div", {}, el("p", { class: "where" }, el("b", { class: "side" }, name), data.place(pos)));
    const numbers = data.quantities.map(({ label, unit, values }) =>
      el("span", {}, `${label} `, el("b", {}, number(values[layer * data.positions + pos])), ` ${unit}`));
    const facts = el("p", { class: "facts" }, ...numbers);
    if (data.stays) facts.append(el("span", {}, "answer stays from ", el("b", {}, data.names[data.stays[pos]])));
    const rows = cell(data, layer, pos).map((one) => line(data, look, one));
    return el("div", {}, head, el("table", {}, el("tbody", {}, ...rows)), facts);
  }

  /** Of the cell at `at`, beside the map where the pointer or the keyboard is. */
  function show(at, map) {
    if (!at) {
      if (node.matches(":popover-open")) node.hidePopover();
      return;
    }
    node.replaceChildren(...panes.map((pane) => block(pane, at)));
    if (!node.matches(":popover-open")) node.showPopover();
    place(at.box?.() ?? map.box(at));
  }

  function place(box) {
    const [w, h] = [node.offsetWidth, node.offsetHeight];
    const right = box.right + 12;
    const left = right + w <= innerWidth ? right : box.left - 12 - w;
    node.style.left = `${clamp(left, 4, Math.max(4, innerWidth - w - 4))}px`;
    node.style.top = `${clamp(box.top - 20, 4, Math.max(4, innerHeight - h - 4))}px`;
  }
  return { node, show, open: () => node.matches(":popover-open") };
}

/** What was found, in words. */
export function findings(node, found, place) {
  if (!found) return fill(node, "");
  if (!found.length) return fill(node, "not in any stored cell");
  const at = place === null ? "" : `${place + 1} of `;
  return fill(node, `${at}${found.length} cell${found.length === 1 ? "" : "s"}`);
}
