// Who wrote a pinned token: what the embedding and every block's attention and MLP added to its logit.

import { el, svg } from "./dom.js";

const BARS = { wide: 460, tall: 170, left: 46, top: 10, bottom: 26 };
const PARTS = [["attention", "#2f6fd0"], ["mlp", "#e07b00"]];
const TITLES = { attention: "attention", mlp: "MLP" };
const OTHERS = "#8a93a3";

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 1)}`;

/** Of a position: closed at first, one token at a time; nothing where nothing was attributed. */
export function makeWritten(tokens) {
  if (!tokens.length) return "";
  const body = el("div", {});
  const pick = el("select", { "aria-label": "Token", onchange: () => body.replaceChildren(...drawn(tokens[pick.value])) },
    ...tokens.map((one, i) => el("option", { value: i }, one.text)));
  body.append(...drawn(tokens[0]));
  return el("details", { class: "written" }, el("summary", {}, "who wrote it"), tokens.length > 1 ? pick : "", body);
}

function drawn(one) {
  const { wide, tall, left: edge, top, bottom } = BARS;
  const blocks = one.attention.length;
  const columns = [["emb", [["embedding", one.embedding, OTHERS]]],
    ...Array.from({ length: blocks }, (_, b) => [String(b), PARTS.map(([name, colour]) => [`${TITLES[name]} of block ${b}`, one[name][b], colour])]),
    ["rest", [["biases", one.bias, OTHERS], ["unexplained", one.unexplained, OTHERS]]]];
  const values = columns.flatMap(([, bars]) => bars.map(([, value]) => value));
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => top + ((high - value) / (high - low || 1)) * (tall - top - bottom);
  const step = (wide - edge - 12) / columns.length;
  const chart = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": `What was added to the logit of ${one.text}, block by block` });
  for (const tick of new Set([low, 0, high]))
    chart.append(svg("line", { class: "grid", x1: edge, x2: wide - 12, y1: y(tick), y2: y(tick) }),
      svg("text", { x: edge - 6, y: y(tick) + 3.5, "text-anchor": "end" }, tick === 0 ? "0" : signed(tick)));
  const every = Math.ceil(blocks / 12);
  columns.forEach(([name, bars], place) => {
    const left = edge + place * step;
    const width = (step * 0.8) / bars.length;
    bars.forEach(([title, value, colour], i) => {
      const bar = svg("rect", { x: left + step * 0.1 + i * width, width: Math.max(width - 0.5, 0.5), y: Math.min(y(value), y(0)), height: Math.max(Math.abs(y(value) - y(0)), 0.5), fill: colour });
      bar.append(svg("title", {}, `${title}: ${signed(value)}`));
      chart.append(bar);
    });
    if (place === 0 || place > blocks || (place - 1) % every === 0)
      chart.append(svg("text", { x: left + step / 2, y: tall - 8, "text-anchor": "middle" }, name));
  });
  const key = PARTS.map(([name, colour]) => {
    const chip = el("i", { class: "chip" });
    chip.style.background = colour;
    return el("span", { class: "entry" }, chip, TITLES[name]);
  });
  const sum = `logit ${one.logit.toFixed(2)}: embedding ${signed(one.embedding)}, attention ${signed(total(one.attention))}, MLP ${signed(total(one.mlp))}, biases ${signed(one.bias)}, unexplained ${signed(one.unexplained)}`;
  return [chart, el("p", { class: "note" }, ...key, el("span", {}, sum)), el("p", { class: "note" }, "Written in the token's direction, in logits, with the final norm's scale held. Not what the model would do without it.")];
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
