// The explorer of a model in a notebook: the form, the lenses of its answer, how the texts go on, and the code.

import { TOLD, copied } from "./code.js";
import { el, fill, folded } from "./dom.js";
import { mount } from "./explorer.js";
import { makeForm } from "./form.js";

/** Whether the notebook around is dark: JupyterLab, VS Code and Colab each say it in their own way. */
function darkAround() {
  const { body, documentElement: root } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.classList.contains("vscode-light") || root.getAttribute("theme") === "light") return false;
  if (body.classList.contains("vscode-dark") || root.getAttribute("theme") === "dark") return true;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function render({ model, el: place }) {
  const host = document.createElement("div");
  const shadow = host.attachShadow({ mode: "open" });
  const setup = model.get("setup");
  const form = makeForm(setup, model.get("asked"), ask, mistaken);
  const status = el("span", { class: "status", role: "status" });
  const lens = el("div", { class: "lens" });
  const tabs = el("div", { class: "tabs segmented", role: "tablist", "aria-label": "Prompts", hidden: "" });
  const texts = el("div", { class: "texts" });
  const code = el("pre", { class: "code" });
  const copy = el("button", { type: "button", onclick: async () => {
    copy.textContent = (await copied(code, script)) ? "copied" : "selected";
    setTimeout(() => (copy.textContent = "copy"), TOLD);
  } }, "copy");
  const script = folded({ class: "script" }, "this view as code", copy, code);
  const head = el("header", {}, el("h1", {}, "Explore"), el("span", { class: "prompt" }, setup.model), status);
  shadow.append(el("style", {}, STYLE), el("div", { class: "home" }, head, form.node, tabs, texts, lens, script));
  place.append(host);
  // JupyterLab takes bare letters for commands ("dd" deletes a cell), and does not see which field in here they go to.
  const guard = (event) => host.toggleAttribute("data-lm-suppress-shortcuts", !((event.ctrlKey || event.metaKey) && event.key === "s"));
  addEventListener("keydown", guard, true);  // before JupyterLab's own
  let view = null;
  let drawn = null;
  let tab = 0;
  let failed = "";
  let holds = false; // what is shown, whatever comes of the question: it asks only for an attribution

  function ask(state) {
    const before = model.get("asked");
    const number = (before.number ?? 0) + 1;
    holds = JSON.stringify({ ...state, written: 0, number: 0 }) === JSON.stringify({ ...before, written: 0, number: 0 });
    if (view && !state.written.length) view.state.written = {}; // of other prompts
    model.set("asked", { ...state, number });
    model.save_changes();
    showStatus({ number, state: "running" });
  }

  /** Ask the model who wrote a token at a position of a side of what is shown. */
  function attribute(side, position, token) {
    const several = tab >= prompts().length;  // two prompts side by side
    form.attribute({ prompt: several ? side : tab, position, token });
  }

  /** A field that cannot be asked as it is; what is shown is still of what was asked last. */
  function mistaken(words) {
    status.textContent = words;
    status.classList.add("bad");
  }

  const prompts = () => [model.get("asked").prompt, ...(model.get("asked").more ?? [])];

  function showStatus(answer) {
    const words = { running: "running …", partial: `${answer.seconds} s, continuing the text …`, done: `${answer.seconds} s`, error: answer.error };
    status.textContent = words[answer.state] ?? "";
    status.classList.toggle("bad", answer.state === "error");
    for (const part of [texts, lens]) part.classList.toggle("stale", ["running", "error"].includes(answer.state) && !holds);
    failed = answer.state === "error" ? `not attributed: ${answer.error}` : "";
    view?.wrote();
  }

  function showAnswer() {
    const answer = model.get("answer");
    if (!answer.state || answer.number < (model.get("asked").number ?? 0)) return;
    showStatus(answer);
    if (answer.code) code.textContent = answer.code;
    script.hidden = !code.textContent;
    if (answer.state === "running" || answer.state === "error") return;
    showTexts();
  }

  /** Line ends are seen, and an empty line takes no room. */
  function lines(text) {
    const seen = text.trim() ? text : text.replaceAll(" ", "␣");
    return fill(el("mark", {}), seen.replace(/(?:[ ␣]*\n)+/g, (ends) => `${ends.replaceAll("\n", "↵")}\n`));
  }

  /** How the prompt that is shown goes on, or all of them where two are side by side. */
  function showTexts() {
    const found = model.get("answer").texts ?? [];
    const line = (name, prompt, text) => el("p", { class: "text" }, el("span", { class: "note" }, name), el("bdi", { dir: "auto" }, prompt, lines(text)));
    const names = found[1] ? ["clean", "changed"] : ["goes on"];
    texts.replaceChildren(...prompts().flatMap((prompt, place) =>
      tab < prompts().length && tab !== place ? [] : names.flatMap((name, i) => (found[i] ? [line(name, prompt, found[i][place])] : []))));
  }

  /** A tab for every prompt, and one for two side by side. */
  function showTabs() {
    const count = model.get("pages").length;
    tab = Math.min(tab, Math.max(0, count - 1));
    tabs.hidden = count < 2;
    tabs.replaceChildren(...model.get("pages").map((_, i) => {
      const name = prompts()[i];
      const put = { role: "tab", type: "button", "aria-selected": String(i === tab), tabindex: i === tab ? "0" : "-1", dir: "auto" };
      return el("button", { ...put, onclick: () => choose(i), onkeydown: (event) => turn(event, count) }, name === undefined ? "side by side" : name.slice(0, 40));
    }));
  }

  function choose(i) {
    tab = i;
    showPages();
    showTexts();
  }

  function turn(event, count) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose((tab + by + count) % count);
    tabs.children[tab].focus();
  }

  function showPages() {
    showTabs();
    const text = model.get("pages")[tab];
    if (!text || text === drawn) return;
    drawn = text;
    view?.close();
    const left = view ? { ...view.state } : {};
    const asking = { ask: attribute, words: () => failed || "running …" };
    view = mount(lens, JSON.parse(text), { dark: darkAround, bare: true, left, asking });
    showWrote();
  }

  const showWrote = () => view?.wrote(model.get("wrote").pages?.[tab]);

  function recolour() {
    host.style.colorScheme = darkAround() ? "dark" : "light";
    view?.touch("theme");
  }
  const around = new MutationObserver(recolour);
  for (const node of [document.body, document.documentElement]) around.observe(node, { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-light"] });
  function showAsked() {
    const asked = model.get("asked");
    if (JSON.stringify(asked) === JSON.stringify({ ...form.current(), number: asked.number })) return;
    holds = false; // Python asks
    form.show(asked);
  }
  const told = { "change:answer": showAnswer, "change:pages": showPages, "change:wrote": showWrote, "change:asked": showAsked };
  for (const [name, act] of Object.entries(told)) model.on(name, act);
  recolour();
  showPages();
  showAnswer();
  script.hidden = !code.textContent;
  return () => {
    around.disconnect();
    removeEventListener("keydown", guard, true);
    view?.close();
    for (const [name, act] of Object.entries(told)) model.off(name, act);
  };
}

export default { render };
