/* A text field that suggests: arrow keys, Enter, Escape, pointer. See the combobox pattern of WAI-ARIA. */
import { h, say } from "./dom.js";

export function combobox(input, { find, text, detail, choose, wait = 120 }) {
  const list = h("ul", { role: "listbox", id: `${input.id}-options`, class: "options", hidden: true, "aria-label": "Suggestions" });
  input.after(list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id })) input.setAttribute(name, value);
  let found = [], at = -1, timer = 0, asked = 0;

  const close = () => { list.hidden = true; at = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const take = (one) => { close(); input.value = ""; choose(one); };
  const mark = (next) => {
    at = next;
    [...list.children].forEach((one, i) => one.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) { input.setAttribute("aria-activedescendant", list.children[at].id); list.children[at].scrollIntoView({ block: "nearest" }); }
  };
  const show = async () => {
    const mine = ++asked;
    try { const answer = await find(input.value.trim()); if (mine !== asked) return; found = answer; } catch { return; }
    list.replaceChildren(...found.map((one, i) => h("li", {
      role: "option", id: `${list.id}-${i}`, "aria-selected": "false",
      onpointerdown: (event) => { event.preventDefault(); take(one); },
    }, h("span", {}, text(one)), h("span", {}, detail(one)))));
    list.hidden = !found.length || document.activeElement !== input;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(-1);
    if (document.activeElement === input) say(found.length ? `${found.length} suggestions` : "nothing found");
  };

  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, wait); });
  input.addEventListener("focus", show);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      if (at < 0) { await show(); }
      const one = found[Math.max(at, 0)];
      if (one) take(one);
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !list.hidden && found.length) {
      event.preventDefault();
      mark((at + (event.key === "ArrowDown" ? 1 : at < 0 ? 0 : -1) + found.length) % found.length);
    }
  });
}
