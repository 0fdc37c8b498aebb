// What is shown as code: the calls that make it, and this view of it.

import { el, folded } from "./dom.js";

export const TOLD = 1600;

/** `made` is from `code.py`: the lines that make what is shown, and the name they give it. */
export function makeCode({ lines, name }, store) {
  const text = el("pre", { class: "code", tabindex: "0", "aria-label": "This view as code" });
  const node = folded({ class: "script", ontoggle: write }, "this view as code", text);
  const shut = (event) => event.key === "Escape" && (node.open = false); // the button opens it where it cannot copy
  const button = el("button", { type: "button", class: "copy", title: "copy the calls that make this view", onclick: copy, onkeydown: shut }, "code");
  const told = el("output", { class: "spoken" });
  store.listen(() => node.open && write());

  function write() {
    const view = store.hash();
    const call = `shl.write_html(${name}, "${name}.html"${view ? `, view="${view}"` : ""})`;
    const now = `${lines}\n${call}\n`;
    if (text.textContent !== now) text.textContent = now; // what is selected of it stays
  }

  async function copy() {
    write();
    const done = await copied(text, node);
    [button.textContent, told.textContent] = done ? ["copied", "copied"] : ["code", "selected, to copy with the keyboard"];
    setTimeout(() => (button.textContent = "code"), TOLD);
  }

  return { node, button, told };
}

/** Whether it was copied. A frame may not write to the clipboard: there the code is shown, in `around`, and selected. */
export async function copied(text, around) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return true;
  } catch {
    around.open = true;
    text.scrollIntoView({ block: "nearest" });
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }
}
