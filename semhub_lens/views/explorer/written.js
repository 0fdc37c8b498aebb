// Who wrote a pinned token: what the embedding and every block's attention and MLP added to its logit, and single heads.

import { el, folded, svg } from "./dom.js";
import { trajectories } from "./data.js";

const BARS = { wide: 460, tall: 170, left: 46, top: 10, bottom: 26 };
const PARTS = [["attention", "var(--line0)"], ["mlp", "var(--line1)"]];
const TITLES = { attention: "attention", mlp: "MLP" };
const OTHERS = "#8a93a3";
const OFFERED = 40;

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 1)}`;
const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** Of a position: closed at first, one token at a time. `asking` gets a token that was not attributed. */
export function makeWritten(data, pos, side, store, asking) {
  const known = () => data.written.filter((one) => one.position === pos);
  const offered = asking && data.top && data.ids[data.top[pos * data.k]] >= 0 ? trajectories(data, pos).slice(0, OFFERED) : [];
  if (!known().length && !offered.length) return { node: "", refresh() {} };
  const key = `${side}${pos}`;
  const kept = (name) => store.state.written[key]?.[name];
  const keep = (patch) => (store.state.written = { ...store.state.written, [key]: { ...store.state.written[key], ...patch } });
  const body = el("div", {});
  const pick = el("select", { "aria-label": "Token", onchange: () => choose(Number(pick.value)) });
  const node = folded({ class: "written", ontoggle: opened }, "which blocks wrote it", pick, body);
  node.open = Boolean(kept("open"));
  refresh();

  function opened() {
    if (node.open === Boolean(kept("open"))) return;
    keep({ open: node.open });
    if (node.open) choose(Number(pick.value));
  }

  function choose(id) {
    keep({ id });
    if (!known().some((one) => one.id === id)) asking.ask(pos, id);
    refresh();
  }

  /** Draw what is known by now. */
  function refresh() {
    const tokens = new Map([...offered, ...known()].map((one) => [one.id, one.text]));
    const first = known()[0]?.id ?? data.ids[data.top[((data.layers - 1) * data.positions + pos) * data.k]];
    const id = tokens.has(kept("id")) ? kept("id") : first;
    if (pick.length !== tokens.size) pick.replaceChildren(...[...tokens].map(([value, text]) => el("option", { value }, text)));
    pick.value = id;
    pick.hidden = tokens.size < 2;
    const one = known().find((found) => found.id === id);
    const shown = one ? drawn(one, kept("block"), (block) => { keep({ block }); refresh(); }) : [el("p", { class: "note" }, node.open ? asking.words() : "")];
    const held = body.contains(body.getRootNode().activeElement);
    body.replaceChildren(...shown);
    if (held) body.querySelector(".split")?.focus();
  }
  return { node, refresh };
}

function drawn(one, asked, choose) {
  const { heads } = one;
  const columns = [["emb", [["embedding", one.embedding, OTHERS]]],
    ...one.attention.map((_, b) => [String(b), PARTS.map(([name, colour]) => [`${TITLES[name]} of block ${b}`, one[name][b], colour])]),
    ["rest", [["biases", one.bias, OTHERS], ["unexplained", one.unexplained, OTHERS]]]];
  const key = PARTS.map(([name, colour]) => {
    const chip = el("i", { class: "chip" });
    chip.style.background = colour;
    return el("span", { class: "entry" }, chip, TITLES[name]);
  });
  const sum = `logit ${one.logit.toFixed(2)}: embedding ${signed(one.embedding)}, attention ${signed(total(one.attention))}, MLP ${signed(total(one.mlp))}, biases ${signed(one.bias)}, unexplained ${signed(one.unexplained)}`;
  const parts = [bars(columns, `Contribution of each block to the logit of ${one.text}`, "block"), el("p", { class: "note" }, ...key, el("span", {}, sum))];
  if (one.missing.length) parts.push(el("p", { class: "note" }, one.missing.join(". ")));
  if (heads) parts.push(...byHead(one, heads.blocks.includes(asked) ? asked : strongest(one), choose));
  return [...parts, el("p", { class: "note" }, "Each block's contribution to the token's logit, with the scale of the final norm fixed. It does not show what the model would do without the block.")];
}

const strongest = ({ heads, attention }) => heads.blocks.reduce((best, b) => (Math.abs(attention[b]) > Math.abs(attention[best]) ? b : best));

/** The heads of one block, and what its attention wrote beside them. */
function byHead(one, block, choose) {
  const place = one.heads.blocks.indexOf(block);
  const values = one.heads.values[place].filter((value) => value !== null);
  const columns = [...values.map((value, head) => [String(head), [[`head ${head} of block ${block}`, value, PARTS[0][1]]]]),
    ["bias", [["bias of the output", one.heads.beside[place], OTHERS]]]];
  const pick = el("select", { class: "split", "aria-label": "Block", onchange: () => choose(Number(pick.value)) },
    ...one.heads.blocks.map((b) => el("option", { value: b }, `block ${b} (${signed(one.attention[b])})`)));
  pick.value = block;
  return [el("label", { class: "note heads" }, "heads of", pick), bars(columns, `Contribution of each head of block ${block} to the logit of ${one.text}`, "head", 120)];
}

/** Columns of bars from zero; each bar is named and has its number. */
function bars(columns, label, axis, high = BARS.tall) {
  const { wide, left: edge, top, bottom } = BARS;
  const values = columns.flatMap(([, found]) => found.map(([, value]) => value));
  const [low, most] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => top + ((most - value) / (most - low || 1)) * (high - top - bottom);
  const step = (wide - edge - 12) / columns.length;
  const chart = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label });
  for (const tick of marked(low, most, y))
    chart.append(svg("line", { class: "grid", x1: edge, x2: wide - 12, y1: y(tick), y2: y(tick) }),
      svg("text", { x: edge - 6, y: y(tick) + 3.5, "text-anchor": "end" }, tick === 0 ? "0" : signed(tick)));
  const every = Math.ceil(columns.length / 14);
  chart.append(svg("text", { x: edge - 6, y: high - 8, "text-anchor": "end" }, axis));
  columns.forEach(([name, found], place) => {
    const left = edge + place * step;
    const width = (step * 0.8) / found.length;
    found.forEach(([title, value, colour], i) => {
      const bar = svg("rect", { x: left + step * 0.1 + i * width, width: Math.max(width - 0.5, 0.5), y: Math.min(y(value), y(0)), height: Math.max(Math.abs(y(value) - y(0)), 0.5), fill: colour });
      bar.append(svg("title", {}, `${title}: ${signed(value)}`));
      chart.append(bar);
    });
    if (Number.isNaN(Number(name)) || Number(name) % every === 0)
      chart.append(svg("text", { x: left + step / 2, y: high - 8, "text-anchor": "middle" }, name));
  });
  return chart;
}

/** The least, zero and the most, without those whose numbers would run into zero's. */
export const marked = (low, most, y) => [...new Set([low, 0, most])].filter((tick) => tick === 0 || Math.abs(y(tick) - y(0)) > 16);
