/* The metrics of the run, and what each stage of a pipeline adds. */
import { $, h } from "./dom.js";

const FIRST = ["ndcg", "recall", "hit_rate", "precision", "mrr", "map", "coverage", "diversity", "novelty"];
const LABELS = { ndcg: "NDCG", recall: "Recall", hit_rate: "Hit rate", precision: "Precision", mrr: "MRR", map: "MAP" };
const label = (metric) => { const [name, k] = metric.split("@"); return `${LABELS[name] ?? name[0].toUpperCase() + name.slice(1)}${k ? ` @${k}` : ""}`; };
const number = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(4));

export function showFigures(run) {
  const part = run.metrics.test ? "test" : Object.keys(run.metrics)[0];
  if (!part) {
    $("figures-words").textContent = "This run was not evaluated: recsys-dl evaluate run=… writes its figures.";
    return;
  }
  const { values, intervals, confidence, conventions = {}, k = [10] } = run.metrics[part];
  const at = k.includes(10) ? 10 : k[0];
  const metrics = FIRST.map((name) => `${name}@${at}`).filter((name) => name in values).slice(0, 8);
  $("figures-words").textContent = `${part} part${conventions.users ? `, ${conventions.users.toLocaleString()} users` : ""}`
    + `${conventions.candidates ? `, candidates: ${conventions.candidates}` : ""}; brackets: ${Math.round(100 * confidence)}% confidence`;
  $("figures").replaceChildren(...metrics.map((name) => h("div", { class: "figure" },
    h("div", { class: "label" }, label(name)), h("div", { class: "value" }, number(values[name])),
    h("div", { class: "interval" }, intervals[name] ? `[${number(intervals[name][0])}, ${number(intervals[name][1])}]` : " "))));
  const adds = run.attribution[part] ?? Object.values(run.attribution)[0];
  if (!adds) return;
  const metric = `ndcg@${adds.k}`;
  const stages = adds.stages.filter((one) => typeof one.values[metric] === "number");
  const most = Math.max(...stages.map((one) => one.intervals[metric]?.[1] ?? one.values[metric]), 1e-9);
  $("attribution").replaceChildren(h("div", { class: "bars" }, h("h3", {}, `What each stage adds: ${label(metric)}`), stages.flatMap((one) => {
    const bar = h("i", { class: one.kind }), span = h("u");
    bar.style.width = `${100 * one.values[metric] / most}%`;
    const ends = one.intervals[metric];
    if (ends) { span.style.left = `${100 * ends[0] / most}%`; span.style.width = `${100 * (ends[1] - ends[0]) / most}%`; }
    const change = one.change && typeof one.change.value === "number" && Math.abs(one.change.value) >= 0.00005 ? ` · ${one.change.value > 0 ? "+" : "−"}${Math.abs(one.change.value).toFixed(4)}` : "";
    const time = one.ms ? ` · ${one.ms[0].toFixed(1)} ms` : "";
    return [h("span", {}, one.kind === "retriever" ? `${one.name} alone` : one.name), h("div", { class: "bar", "aria-hidden": "true" }, bar, ends ? span : null), h("span", { class: "num" }, `${number(one.values[metric])}${change}${time}`)];
  })));
}
