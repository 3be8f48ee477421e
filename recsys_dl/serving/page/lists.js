/* The lists: of one run or of two, with reasons; and those after each stage. */
import { $, h, nameOf } from "./dom.js";

const RESERVED = new Set(["item", "rank", "title", "score", "found_by", "moved_by", "because", "similar_to", "users"]);

function reason(item) {
  if (item.because) return [item.because];
  if (!item.similar_to?.length) return ["nothing they liked is among its most similar items"];
  const names = item.similar_to.flatMap((one, i) => [i ? ", " : "", h("b", {}, nameOf(one))]);
  return ["similar to ", ...names];
}

function shift(item, rank, before) {
  if (!before) return null;
  const then = before.get(String(item.item));
  if (then === undefined) return h("span", { class: "shift new" }, "new");
  if (then === rank) return null;
  const up = then > rank;
  return h("span", { class: `shift ${up ? "up" : "down"}`, "aria-label": `${up ? "up" : "down"} ${Math.abs(then - rank)}` }, `${up ? "▲" : "▼"} ${Math.abs(then - rank)}`);
}

function how(item) {
  const chips = (item.found_by ?? "").split(", ").filter(Boolean).map((one) => h("span", { class: "chip" }, one.replace(/ (\d+)$/, " #$1")));
  const steps = Object.entries(item).filter(([name, value]) => !RESERVED.has(name) && (value === null || Number.isInteger(value)));
  const path = steps.length ? h("span", { class: "path" }, steps.map(([name, rank]) => `${name} ${rank ?? "–"}`).join(" → ")) : null;
  const moved = item.moved_by ? h("span", { class: "chip moved" }, `moved by ${item.moved_by}`) : null;
  return chips.length || path || moved ? h("div", { class: "how" }, chips, path, moved) : null;
}

function oneList(answer, { name, before, other }) {
  const rows = answer.items.map((item, i) => {
    const key = String(item.item);
    const both = other && (other.has(key) ? h("span", { class: "shift" }, "in both") : h("span", { class: "shift new" }, "only here"));
    const mark = other ? both : shift(item, i + 1, before);
    return h("li", { "data-item": key, class: before && before.get(key) !== i + 1 ? "fresh" : null },
      h("span", { class: "rank" }, String(i + 1)), h("span", { class: "name" }, nameOf(item)), mark ?? h("span"),
      h("p", { class: "why" }, reason(item)), other ? null : how(item));
  });
  const notes = answer.notes.map((note) => h("p", { class: "note" }, note));
  return h("div", { class: "list", "data-variant": answer.variant }, name ? h("h3", {}, name) : null, h("ol", {}, rows), notes);
}

export function showLists(answers, names, before) {
  const keys = answers.map((answer) => new Set(answer.items.map((item) => String(item.item))));
  $("lists").replaceChildren(...answers.map((answer, i) => oneList(answer, {
    name: answers.length > 1 ? names[i] : null, before: answers.length > 1 ? null : before, other: answers.length > 1 ? keys[1 - i] : null,
  })));
  const removed = answers[0].removed;
  $("removed").replaceChildren(...(removed.length ? [h("p", { class: "note" }, `Left out: ${removed.map((one) => `${nameOf(one)} (${one.reason ?? one.stage})`).join("; ")}`)] : []));
}

export function showStages(answer) {
  $("stages-card").hidden = !answer.stages.length;
  const final = new Set(answer.items.map((item) => String(item.item)));
  const follow = (key) => {
    for (const one of $("stages").querySelectorAll("li")) one.classList.toggle("same", one.dataset.item === key);
  };
  $("stages").replaceChildren(...answer.stages.map((stage, s) => h("div", { class: `stage${s === answer.stages.length - 1 ? " last" : ""}` },
    h("h3", {}, stage.name, h("span", { class: "kind" }, stage.kind === stage.name ? "of all candidates" : stage.kind)),
    h("ol", {}, stage.items.map((item, i) => {
      const key = String(item.item);
      return h("li", {
        "data-item": key, tabindex: "0", title: nameOf(item), class: final.has(key) ? "final" : null,
        onpointerenter: () => follow(key), onfocus: () => follow(key), onpointerleave: () => follow(null), onblur: () => follow(null),
      }, h("span", {}, String(i + 1)), h("span", {}, nameOf(item)));
    })))));
}

export const ranksOf = (answer) => new Map(answer.items.map((item, i) => [String(item.item), i + 1]));
