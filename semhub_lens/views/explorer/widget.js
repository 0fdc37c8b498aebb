// The explorer of a model in a notebook: the form, the lens of its answer, how the text goes on, and the code.

import { el } from "./dom.js";
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
  const form = makeForm(setup, model.get("asked"), ask);
  const status = el("span", { class: "status", role: "status" });
  const lens = el("div", { class: "lens" });
  const texts = el("div", { class: "texts" });
  const code = el("pre", { class: "code" });
  const copy = el("button", { type: "button", onclick: () => navigator.clipboard?.writeText(code.textContent) }, "copy");
  const script = el("details", { class: "script" }, el("summary", {}, "this view as code"), copy, code);
  const head = el("header", {}, el("h1", {}, "Explore"), el("span", { class: "prompt" }, setup.model), status);
  shadow.append(el("style", {}, STYLE), el("div", { class: "home" }, head, form.node, texts, lens, script));
  place.append(host);
  let view = null;
  let drawn = null;

  function ask(state) {
    const number = (model.get("asked").number ?? 0) + 1;
    model.set("asked", { ...state, number });
    model.save_changes();
    showStatus({ number, state: "running" });
  }

  function showStatus(answer) {
    const words = { running: "running …", partial: `${answer.seconds} s, continuing the text …`, done: `${answer.seconds} s`, error: answer.error };
    status.textContent = words[answer.state] ?? "";
    status.classList.toggle("bad", answer.state === "error");
    lens.classList.toggle("stale", answer.state === "running");
  }

  function showAnswer() {
    const answer = model.get("answer");
    if (!answer.state || answer.number < (model.get("asked").number ?? 0)) return;
    showStatus(answer);
    if (answer.code) code.textContent = answer.code;
    script.hidden = !code.textContent;
    if (answer.state === "running" || answer.state === "error") return;
    const found = answer.texts ?? [];
    const line = (name, text) => el("p", { class: "text" }, el("span", { class: "note" }, name),
      el("bdi", { dir: "auto" }, form.current().prompt, el("mark", {}, text)));
    texts.replaceChildren(...found.flatMap((text, i) => (text === null || text === undefined ? [] : [line(found[1] === undefined || found[1] === null ? "goes on" : ["clean", "changed"][i], text)])));
  }

  function showPage() {
    const text = model.get("page");
    if (!text || text === drawn) return;
    drawn = text;
    view?.close();
    const left = view ? { ...view.state } : {};
    view = mount(lens, JSON.parse(text), { dark: darkAround, bare: true, left });
  }

  function recolour() {
    host.style.colorScheme = darkAround() ? "dark" : "light";
    view?.touch("theme");
  }
  const around = new MutationObserver(recolour);
  for (const node of [document.body, document.documentElement]) around.observe(node, { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-light"] });
  const showAsked = () => JSON.stringify(model.get("asked")) !== JSON.stringify({ ...form.current(), number: model.get("asked").number }) && form.show(model.get("asked"));
  const told = { "change:answer": showAnswer, "change:page": showPage, "change:asked": showAsked };
  for (const [name, act] of Object.entries(told)) model.on(name, act);
  recolour();
  showPage();
  showAnswer();
  script.hidden = !code.textContent;
  return () => {
    around.disconnect();
    view?.close();
    for (const [name, act] of Object.entries(told)) model.off(name, act);
  };
}

export default { render };
