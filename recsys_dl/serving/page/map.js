/* Items on two principal components, on a canvas; what it shows is also said in words. */
import { $, nameOf } from "./dom.js";

let sample = null, shown = { liked: [], listed: [], center: null }, spots = [];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function setSample(map) { sample = map; draw(); }
export function setShown(next) { shown = next; draw(); words(); }

function words() {
  if (!sample) return;
  const share = Math.round(100 * (sample.variance[0] + sample.variance[1]));
  const of = sample.vectors === "interactions" ? "a singular value decomposition of the interactions" : `the item vectors of ${sample.vectors}`;
  $("map-words").textContent = `${sample.items.length.toLocaleString()} of ${sample.of.toLocaleString()} items on the first two principal components of ${of}, which hold ${share}% of their variance. `
    + (shown.center ? "The user is at the middle of what they liked." : "");
  $("map").setAttribute("aria-label", `Map of items; recommended: ${shown.listed.map(nameOf).join(", ") || "nothing"}`);
}

export function draw() {
  const canvas = $("map"), box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  if (!sample || !box.width) return;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  // the middle 97% of the sample fills the plot, and everything that is shown of the user stays in view
  const range = (values, more) => {
    const sorted = [...values].sort((a, b) => a - b);
    const ends = [sorted[Math.floor(sorted.length * 0.015)], sorted[Math.ceil(sorted.length * 0.985) - 1], ...more];
    const low = Math.min(...ends), high = Math.max(...ends);
    return [low, high - low || 1];
  };
  const marked = [...shown.liked, ...shown.listed].filter((one) => one.x !== null);
  const [left, width] = range(sample.x, marked.map((one) => one.x)), [bottom, height] = range(sample.y, marked.map((one) => one.y));
  const pad = 22, at = (x, y) => [pad + (box.width - 2 * pad) * (x - left) / width, box.height - pad - (box.height - 2 * pad) * (y - bottom) / height];
  const most = Math.log1p(Math.max(1, ...sample.users));
  spots = [];
  pen.fillStyle = color("--point");
  sample.items.forEach((item, i) => {
    const [x, y] = at(sample.x[i], sample.y[i]), share = Math.log1p(sample.users[i]) / most;
    pen.globalAlpha = 0.22 + 0.4 * share;
    pen.beginPath(); pen.arc(x, y, 1 + 3.2 * share * share, 0, 7); pen.fill();
    spots.push([x, y, sample.titles[i] ?? String(item), 4]);
  });
  pen.globalAlpha = 1;
  const disk = (one, radius, fill) => {
    const [x, y] = at(one.x, one.y);
    pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fillStyle = fill; pen.fill();
    pen.lineWidth = 1.5; pen.strokeStyle = color("--surface"); pen.stroke();
    spots.push([x, y, nameOf(one), radius + 3]);
    return [x, y];
  };
  if (shown.center) {
    const [x, y] = at(shown.center.x, shown.center.y);
    pen.strokeStyle = color("--accent"); pen.globalAlpha = 0.35; pen.lineWidth = 1;
    for (const one of shown.listed.filter((one) => one.x !== null)) { pen.beginPath(); pen.moveTo(x, y); pen.lineTo(...at(one.x, one.y)); pen.stroke(); }
    pen.globalAlpha = 1;
  }
  for (const one of shown.liked) if (one.x !== null) disk(one, 4.5, color("--warm"));
  pen.font = "600 10px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "middle";
  [...shown.listed].map((one, i) => [one, i]).reverse().forEach(([one, i]) => {
    if (one.x === null) return;
    const [x, y] = disk(one, 8.5, color("--accent"));
    pen.fillStyle = color("--surface"); pen.fillText(String(i + 1), x, y + 0.5);
  });
  if (shown.center) {
    const [x, y] = at(shown.center.x, shown.center.y);
    pen.strokeStyle = color("--ink"); pen.lineWidth = 2.5;
    pen.beginPath(); pen.arc(x, y, 7, 0, 7); pen.stroke();
    pen.beginPath(); pen.arc(x, y, 1.5, 0, 7); pen.stroke();
    spots.push([x, y, "the user", 10]);
  }
}

export function watchMap() {
  const canvas = $("map"), tip = $("tip");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = Infinity;
    for (const spot of spots) {
      const far = Math.hypot(spot[0] - x, spot[1] - y) - spot[3];
      if (far < 5 && far < least) { best = spot; least = far; }
    }
    tip.hidden = !best;
    if (best) { tip.textContent = best[2]; tip.style.left = `${Math.min(Math.max(best[0], 70), box.width - 70)}px`; tip.style.top = `${Math.max(best[1], 36)}px`; }
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
