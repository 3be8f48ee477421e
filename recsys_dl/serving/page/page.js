/* For whom, with which settings: asks the server, and shows what it answers. The address keeps the choice. */
import { ask, get } from "./api.js";
import { combobox } from "./combobox.js";
import { $, h, nameOf, problem, say } from "./dom.js";
import { showFigures } from "./figures.js";
import { ranksOf, showLists, showStages } from "./lists.js";
import { setSample, setShown, watchMap } from "./map.js";

const WORDS = { diversity: "Diversity", freshness: "Freshness", exploration: "Exploration" };
const state = { who: "user", user: null, history: [], k: 10, settings: {}, run: null, names: {}, before: null, asking: null, seed: Math.floor(Math.random() * 2 ** 50) };

const whose = () => (state.who === "user" ? { user: state.user } : { history: state.history.map((one) => one.item) });

async function guarded(work) {
  try { await work(); problem(null); } catch (error) { if (error.name !== "AbortError") { problem(error.message); say(error.message); } }
}

async function refresh({ whole = false } = {}) {
  state.asking?.abort();
  const mine = state.asking = new AbortController(), signal = mine.signal;
  const body = { ...whose(), k: state.k, seed: state.seed };
  await guarded(async () => {
    const [first, ...others] = await Promise.all(state.run.variants.map((variant) => ask("explain", { ...body, variant, ...(variant === "a" ? state.settings : {}) }, signal)));
    if (whole || !state.before) state.before = Object.keys(state.settings).length ? ranksOf(await ask("explain", { ...body, variant: "a" }, signal)) : ranksOf(first);
    if (mine !== state.asking) return;
    const adjusted = Object.keys(state.settings).length > 0;
    showLists([first, ...others], state.run.variants.map((one) => state.names[one]), adjusted ? state.before : null);
    showStages(first);
    const changed = first.items.filter((item, i) => state.before.get(String(item.item)) !== i + 1).length;
    say(`${first.items.length} items${adjusted ? `, ${changed} changed by the settings` : ""}; first: ${first.items.length ? nameOf(first.items[0]) : "none"}`);
    $("reset").disabled = !adjusted;
    remember();
    const liked = state.liked.map((one) => one.item), listed = first.items.map((one) => one.item);
    const [ofLiked, ofListed] = await Promise.all([ask("map", { items: liked }, signal), ask("map", { items: listed }, signal)]);
    if (mine === state.asking) setShown({ liked: ofLiked.points, listed: ofListed.points, center: ofLiked.center });
  });
}

async function refreshWhom() {
  await guarded(async () => {
    state.liked = state.who === "user" ? (await get("liked", { user: state.user, limit: 100 })).items : state.history;
    const removable = state.who === "history";
    $("liked").replaceChildren(...state.liked.map((item) => h("li", {}, h("span", {}, nameOf(item)), removable
      ? h("button", { type: "button", class: "quiet", "aria-label": `Remove ${nameOf(item)}`, onclick: () => { state.history = state.history.filter((one) => one !== item); choose(); } }, "Remove")
      : h("span", { class: "weight" }, item.source === "feedback" ? "just now" : String(Math.round(item.weight * 100) / 100)))));
    $("liked-count").textContent = state.liked.length ? `${state.liked.length}${state.liked.length === 100 ? " shown" : ""}` : "";
    $("liked-none").hidden = state.liked.length > 0;
    $("liked-none").textContent = removable ? "Nothing yet: the list is of what many liked. Add titles above." : "Nothing.";
    $("lists-title").textContent = state.who === "user" ? `Recommended to user ${state.user}` : "Recommended to a new user";
  });
  await refresh({ whole: true });
}

function choose(change = {}) {
  Object.assign(state, change, { before: null });
  for (const radio of document.getElementsByName("who")) radio.checked = radio.value === state.who;
  $("by-user").hidden = state.who !== "user";
  $("by-history").hidden = state.who !== "history";
  return refreshWhom();
}

function remember() {
  const words = new URLSearchParams({ ...state.settings, k: state.k });
  if (state.who === "user") words.set("user", state.user); else words.set("history", JSON.stringify(state.history));
  history.replaceState(null, "", `#${words}`);
}

function makeSliders() {
  const settings = Object.entries(state.run.settings);
  $("tune").hidden = !settings.length;
  let timer = 0;
  $("sliders").replaceChildren(...settings.map(([name, value]) => {
    const whole = name === "exploration";
    const text = (now) => (whole ? `${now} position${now === 1 ? "" : "s"}` : Number(now).toFixed(2));
    const output = h("output", { for: name }, text(state.settings[name] ?? value));
    const slider = h("input", {
      id: name, type: "range", min: 0, max: whole ? 5 : 1, step: whole ? 1 : 0.05, value: state.settings[name] ?? value,
      oninput: () => {
        output.textContent = text(slider.valueAsNumber);
        if (slider.valueAsNumber === value) delete state.settings[name]; else state.settings[name] = slider.valueAsNumber;
        clearTimeout(timer);
        timer = setTimeout(refresh, 60);
      },
    });
    return h("div", { class: "slider" }, h("label", { for: name }, WORDS[name] ?? name, output), slider);
  }));
}

async function start() {
  watchMap();
  state.run = await get("run", {});
  const { run, model, users, items, variants } = state.run;
  const short = (path) => path.replace(/\/+$/, "").split("/").slice(-1)[0];
  state.names = { a: `a: ${short(run)} (${model})` };
  if (variants.includes("b")) { const b = await get("run", { variant: "b" }); state.names.b = `b: ${short(b.run)} (${b.model})`; }
  $("run").textContent = variants.length > 1 ? `${short(run)} beside ${state.names.b.slice(3)}` : short(run);
  document.title = `${short(run)} – recsys_dl`;
  $("facts").textContent = `${model} · ${users.toLocaleString()} users · ${items.toLocaleString()} items`;
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(state.run.settings)) if (words.has(name) && Number.isFinite(Number(words.get(name)))) state.settings[name] = Number(words.get(name));
  if (["5", "10", "20"].includes(words.get("k"))) { state.k = Number(words.get("k")); $("k").value = words.get("k"); }
  makeSliders();
  showFigures(state.run);
  combobox($("user"), {
    find: async (text) => (await get("users", { q: text, limit: 12 })).users, text: (one) => one.user,
    detail: (one) => `${one.items.toLocaleString()} items`, choose: (one) => choose({ user: one.user }),
  });
  combobox($("title"), {
    find: async (text) => (await get("titles", { q: text, limit: 12 })).items, text: nameOf,
    detail: (one) => `${one.users.toLocaleString()} users`,
    choose: (one) => choose({ history: [...state.history.filter((item) => item.item !== one.item), { item: one.item, title: one.title }] }),
  });
  for (const radio of document.getElementsByName("who")) radio.addEventListener("change", () => choose({ who: radio.value }));
  $("k").addEventListener("change", () => { state.k = Number($("k").value); state.before = null; refresh(); });
  $("reset").addEventListener("click", () => { state.settings = {}; makeSliders(); refresh(); });
  const first = (await get("users", { limit: 1 })).users[0]?.user ?? null;
  let kept = [];
  try { kept = JSON.parse(words.get("history") ?? "[]").filter((one) => one && "item" in one); } catch { kept = []; }
  await choose({ user: words.get("user") ?? first, who: words.has("history") || first === null ? "history" : "user", history: kept });
  setSample(await get("map", {}));
  await refresh();
}

guarded(start);
