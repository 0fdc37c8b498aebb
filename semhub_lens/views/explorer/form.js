// What is asked of the model: a prompt, what to read, interventions. Values go out as they are typed.

import { el } from "./dom.js";

const TYPING = 350;
const KINDS = {
  steer: { label: "steer by words", fields: ["plus", "minus"], strength: 4 },
  vector: { label: "steer by a saved vector", fields: ["path"], strength: 1 },
  project_out: { label: "project words out", fields: ["plus", "minus"], strength: 1 },
  patch: { label: "patch from a prompt", fields: ["source"], strength: 1, positions: "-1" },
};
const FIELDS = {
  plus: { label: "towards", size: 9 }, minus: { label: "away from", size: 9 },
  path: { label: "file", size: 26 }, source: { label: "other prompt", size: 30 },
};

/** `asked` is what the form shows; `ask` gets it anew whenever it changes, `setup` says what the model has. */
export function makeForm(setup, asked, ask) {
  let state = structuredClone(asked);
  let waiting = 0;
  const prompt = el("textarea", { class: "ask", rows: "2", placeholder: "Type a prompt", "aria-label": "Prompt", spellcheck: "false", dir: "auto" });
  const changes = el("div", { class: "changes" });
  const node = el("form", { class: "form", onsubmit: (event) => event.preventDefault() }, prompt);

  function set(patch, soon = TYPING) {
    state = { ...state, ...patch };
    clearTimeout(waiting);
    waiting = setTimeout(() => ask(structuredClone(state)), soon);
  }

  function field(label, value, put, settings = {}) {
    const input = el("input", { value, "aria-label": label, ...settings });
    input.addEventListener("input", () => {
      if (input.type !== "number") return put(input.value);
      if (input.value !== "" && input.checkValidity()) put(Number(input.value));
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
    set({ interventions: [...state.interventions, one] });
    add.value = "";
    drawChanges();
    changes.lastElementChild.querySelector("input").focus();
  });
  prompt.addEventListener("input", () => set({ prompt: prompt.value }));

  function drawChanges() {
    changes.replaceChildren(...state.interventions.map((one, place) => {
      const put = (patch) => {
        Object.assign(one, patch);
        set({});
      };
      const { label, fields } = KINDS[one.kind];
      const words = fields.map((name) => field(FIELDS[name].label, one[name] ?? "", (value) => put({ [name]: value }), { size: FIELDS[name].size }));
      const away = el("button", { type: "button", class: "close", "aria-label": `remove: ${label}`, onclick: () => {
        set({ interventions: state.interventions.filter((_, i) => i !== place) }, 0);
        drawChanges();
      } }, "×");
      return el("div", { class: "change", role: "group", "aria-label": label }, el("b", {}, label), ...words,
        field("at entry", one.entry, (entry) => put({ entry }), { type: "number", min: "0", max: setup.layers, step: "1" }),
        field("strength", one.strength, (strength) => put({ strength }), { type: "number", step: "any" }),
        field("at positions", one.positions, (positions) => put({ positions }), { size: 8, placeholder: "all" }), away);
    }));
  }

  /** Show what is asked, also where Python asked it. */
  function show(given) {
    state = structuredClone(given);
    if (prompt.value !== state.prompt) prompt.value = state.prompt;
    for (const box of node.querySelectorAll("[data-quantity]")) box.checked = state.quantities.includes(box.dataset.quantity);
    settings.replaceChildren(quantities,
      field("layers", state.layers, (layers) => set({ layers }), { size: 9, placeholder: `all, 0-${setup.layers}` }),
      field("tokens a cell", state.top_k, (top_k) => set({ top_k }), { type: "number", min: "1", max: "100" }),
      pick("norm", { final: "final", none: "none" }, state.norm ?? "final", (norm) => set({ norm }, 0)),
      field("continue by", state.new_tokens, (new_tokens) => set({ new_tokens }), { type: "number", min: "0", max: "200" }), add);
    for (const box of quantities.querySelectorAll("input")) box.checked = state.quantities.includes(box.dataset.quantity);
    drawChanges();
  }
  node.append(settings, changes);
  show(asked);
  return { node, show, current: () => state };
}
