// What is asked of the model: prompts, what to read, interventions. Values go out as they are typed.

import { el } from "./dom.js";

const TYPING = 350;
const KINDS = {
  steer: { label: "steer by words", fields: ["plus", "minus"], strength: 1 },
  vector: { label: "steer by a saved vector", fields: ["path"], strength: 1 },
  project_out: { label: "project words out", fields: ["plus", "minus"], strength: 1 },
  patch: { label: "patch from a prompt", fields: ["source"], strength: 1, positions: "-1", where: "at position" },
};
const FIELDS = {
  plus: { label: "towards", size: 9, placeholder: "a word" }, minus: { label: "away from", size: 9, placeholder: "a word" },
  path: { label: "file", size: 26, placeholder: "a saved vector" }, source: { label: "other prompt", size: 30, placeholder: "a prompt" },
};

/** Whether an intervention has all its words; without them it is not asked. */
const complete = (one) => KINDS[one.kind].fields.every((name) => one[name]);

/** `first` is what the form shows; `ask` gets it anew whenever it changes, `say` a mistake; `setup` says what the model has. */
export function makeForm(setup, first, ask, say) {
  let state = structuredClone(first);
  let waiting = 0;
  const box = (settings) => el("textarea", { class: "ask", rows: "2", spellcheck: "false", dir: "auto", ...settings });
  const prompt = box({ placeholder: "Type a prompt", "aria-label": "Prompt" });
  const others = el("div", { class: "others" });
  const changes = el("div", { class: "changes" });
  const node = el("form", { class: "form", onsubmit: (event) => event.preventDefault() }, prompt, others);

  function set(patch, soon = TYPING) {
    state = { ...state, ...patch };
    clearTimeout(waiting);
    waiting = setTimeout(() => ask(asked()), soon);
  }

  const asked = () => structuredClone({ ...state, more: state.more.filter((text) => text), interventions: state.interventions.filter(complete) });

  /** Ask, beside what is asked already, who wrote a token. */
  function attribute(one) {
    const other = (asked) => Object.entries(one).some(([name, value]) => asked[name] !== value);
    set({ written: [...state.written.filter(other), one] }, 0);
  }

  function field(label, value, put, settings = {}) {
    const input = el("input", { value, "aria-label": label, ...settings });
    input.addEventListener("input", () => {
      if (input.type !== "number") return put(input.value);
      if (!input.checkValidity()) say(`${label}: ${input.validationMessage}`);
      else if (input.value !== "") put(Number(input.value));
    });
    return el("label", { class: "field" }, el("span", {}, label), input);
  }

  function pick(label, options, value, put) {
    const select = el("select", { "aria-label": label, onchange: () => put(select.value) },
      ...Object.entries(options).map(([key, text]) => el("option", { value: key }, text)));
    select.value = value;
    return el("label", { class: "field" }, el("span", {}, label), select);
  }

  const quantities = el("span", { class: "field" }, el("span", {}, "read"), ...setup.quantities.map((name) => {
    const box = el("input", { type: "checkbox", "data-quantity": name });
    box.addEventListener("change", () => {
      const on = [...node.querySelectorAll("[data-quantity]")].filter((one) => one.checked);
      set({ quantities: on.map((one) => one.dataset.quantity) }, 0);
    });
    return el("label", { class: "check" }, box, { entropy: "entropy", kl_to_final: "KL to final" }[name] ?? name);
  }));
  const settings = el("div", { class: "settings" });
  const add = el("select", { class: "add", "aria-label": "Add an intervention" },
    el("option", { value: "" }, "+ intervention"), ...Object.entries(KINDS).map(([kind, { label }]) => el("option", { value: kind }, label)));
  add.addEventListener("change", () => {
    const { strength, positions = "" } = KINDS[add.value];
    const one = { kind: add.value, entry: Math.round(setup.layers / 2), strength, positions };
    state = { ...state, interventions: [...state.interventions, one] };
    add.value = "";
    drawChanges();
    changes.lastElementChild.querySelector("input").focus();
  });
  const another = el("button", { type: "button", class: "another", onclick: () => {
    state = { ...state, more: [...state.more, ""] };
    drawOthers();
    others.lastElementChild.querySelector("textarea").focus();
  } }, "+ prompt");
  prompt.addEventListener("input", () => set({ prompt: prompt.value, written: [] }));

  /** The prompts beside the first; an empty one is not asked. */
  function drawOthers() {
    others.replaceChildren(...state.more.map((text, place) => {
      const one = box({ rows: "1", placeholder: "Another prompt", "aria-label": `Prompt ${place + 2}`, oninput: () => put(one.value) });
      one.value = text;
      const put = (value) => set({ more: state.more.map((old, i) => (i === place ? value : old)), written: [] });
      const away = el("button", { type: "button", class: "close", "aria-label": `remove prompt ${place + 2}`, onclick: () => {
        set({ more: state.more.filter((_, i) => i !== place), written: [] }, 0);
        drawOthers();
        another.focus();
      } }, "×");
      return el("div", { class: "other" }, one, away);
    }));
  }

  function drawChanges() {
    changes.replaceChildren(...state.interventions.map((one, place) => {
      const put = (patch) => {
        const before = complete(one);
        Object.assign(one, patch);
        if (before || complete(one)) set({});
      };
      const { label, fields, where = "at positions" } = KINDS[one.kind];
      const words = fields.map((name) => {
        const { label, ...look } = FIELDS[name];
        return field(label, one[name] ?? "", (value) => put({ [name]: value }), { ...look, required: "" });
      });
      const away = el("button", { type: "button", class: "close", "aria-label": `remove: ${label}`, onclick: () => {
        const interventions = state.interventions.filter((_, i) => i !== place);
        if (complete(one)) set({ interventions }, 0);
        else state = { ...state, interventions };
        drawChanges();
        add.focus();
      } }, "×");
      return el("div", { class: "change", role: "group", "aria-label": label }, el("b", {}, label), ...words,
        field("at entry", one.entry, (entry) => put({ entry }), { type: "number", min: "0", max: setup.layers, step: "1" }),
        field("strength", one.strength, (strength) => put({ strength }), { type: "number", step: "any" }),
        field(where, one.positions, (positions) => put({ positions }), { size: 8, placeholder: "all" }), el("span", { class: "note" }, "runs when its words are filled in"), away);
    }));
  }

  /** Show what is asked, also where Python asked it. */
  function show(given) {
    state = structuredClone(given);
    if (prompt.value !== state.prompt) prompt.value = state.prompt;
    drawOthers();
    for (const box of node.querySelectorAll("[data-quantity]")) box.checked = state.quantities.includes(box.dataset.quantity);
    settings.replaceChildren(quantities,
      field("layers", state.layers, (layers) => set({ layers }), { size: 9, placeholder: `all, 0-${setup.layers}` }),
      field("tokens per cell", state.top_k, (top_k) => set({ top_k }), { type: "number", min: "1", max: "100" }),
      pick("norm", { final: "final", none: "none" }, state.norm ?? "final", (norm) => set({ norm }, 0)),
      field("continue by", state.new_tokens, (new_tokens) => set({ new_tokens }), { type: "number", min: "0", max: "200" }), another, add);
    for (const box of quantities.querySelectorAll("input")) box.checked = state.quantities.includes(box.dataset.quantity);
    drawChanges();
  }
  node.append(settings, changes);
  show(first);
  return { node, show, attribute, current: asked };
}
