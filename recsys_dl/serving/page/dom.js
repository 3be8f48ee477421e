/* Elements are made of text, never of markup: a title that looks like HTML is shown as it is. */
export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const nameOf = (item) => item.title ?? String(item.item);
export const say = (text) => { $("status").textContent = text; };

export function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text ?? "";
}
