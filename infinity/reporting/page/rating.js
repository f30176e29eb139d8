"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const at = (id) => document.getElementById(id);
let rater = "", order = [], choices = {}, history = [];
const place = () => `infinity-study-${study.id}-${rater}`;
// A random order of each rater's own, the same whenever the rater returns.
function shuffled(seedText) {
  let seed = 2166136261;
  for (const char of seedText) seed = Math.imul(seed ^ char.codePointAt(0), 16777619) >>> 0;
  const random = () => { seed = (seed + 0x6d2b79f5) >>> 0; let t = Math.imul(seed ^ (seed >>> 15), seed | 1); t ^= t + Math.imul(t ^ (t >>> 7), t | 61); return ((t ^ (t >>> 14)) >>> 0) / 4294967296; };
  const list = study.pairs.map((_, number) => number);
  for (let i = list.length - 1; i > 0; i--) { const j = Math.floor(random() * (i + 1)); [list[i], list[j]] = [list[j], list[i]]; }
  return list;
}
function keep() { localStorage.setItem(place(), JSON.stringify({ choices, history })); }
function show() {
  const next = order.find((number) => !(study.pairs[number].id in choices));
  const done = Object.keys(choices).length;
  at("progress").max = study.pairs.length; at("progress").value = done;
  at("count").textContent = `${done} of ${study.pairs.length}`;
  at("work").hidden = next === undefined; at("end").hidden = next !== undefined;
  if (next === undefined) return;
  const pair = study.pairs[next];
  at("work").dataset.pair = pair.id;
  at("prompt").textContent = pair.prompt;
  at("left-picture").src = pair.left; at("right-picture").src = pair.right;
}
function choose(choice) { const id = at("work").dataset.pair; if (at("work").hidden || !id) return; choices[id] = choice; history.push(id); keep(); document.activeElement.blur(); show(); } // no side stays marked
function back() { const id = history.pop(); if (id !== undefined) { delete choices[id]; keep(); show(); } }
function save() {
  const text = JSON.stringify({ study: study.id, rater, choices }, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `study-${study.id}-${rater.replace(/[^\w-]+/g, "_")}.json`;
  link.click();
}
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = at("rater").value.trim();
  if (!rater) return;
  const stored = JSON.parse(localStorage.getItem(place()) || "{}");
  choices = stored.choices || {}; history = stored.history || [];
  order = shuffled(`${study.id} ${rater}`);
  at("start").hidden = true;
  show();
});
at("left").addEventListener("click", () => choose("left"));
at("right").addEventListener("click", () => choose("right"));
at("tie").addEventListener("click", () => choose("tie"));
at("back").addEventListener("click", back);
at("again").addEventListener("click", back);
document.querySelectorAll(".save").forEach((button) => button.addEventListener("click", save));
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
  if (choice) { event.preventDefault(); choose(choice); } else if (event.key === "Backspace") { event.preventDefault(); back(); }
});
