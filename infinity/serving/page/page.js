"use strict";
// Everything a server or a user says is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const RATIOS = [["1:1", 1], ["4:3", 0.75], ["3:2", 0.666], ["16:9", 0.571], ["2:1", 0.5], ["3:1", 0.333],
  ["3:4", 1.333], ["2:3", 1.5], ["9:16", 1.75], ["1:2", 2], ["1:3", 3]];
let running = null;   // AbortController of the present request
let editing = null;   // {blob, card settings} of the picture in the editor
let brushAt = { x: 0, y: 0 };

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function makeRatios() {
  for (const [index, [name, ratio]] of RATIOS.entries()) {
    const shape = element("span", { className: "shape" });
    const side = 18;
    shape.style.width = `${Math.round(side / Math.sqrt(ratio))}px`;
    shape.style.height = `${Math.round(side * Math.sqrt(ratio))}px`;
    const radio = element("input", { type: "radio", name: "ratio", value: String(ratio), checked: index === 0 });
    $("ratios").append(element("label", {}, radio, shape, name));
  }
}

function headers() {
  const key = $("key").value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function settings() {
  const wanted = {
    prompt: $("prompt").value, n: Number($("n").value), seed: Number($("seed").value),
    guidance: Number($("guidance").value), temperature: Number($("temperature").value),
    aspect_ratio: Number(document.querySelector("input[name=ratio]:checked").value), stream: true,
  };
  if ($("negative_prompt").value) wanted.negative_prompt = $("negative_prompt").value;
  if ($("lora").value) wanted.loras = { [$("lora").value]: Number($("lora_scale").value) };
  return wanted;
}

function addCard(wanted, index) {
  const image = element("img", { alt: `Picture for: ${wanted.prompt}` });
  const state = element("p", { textContent: "waiting" });
  const seed = wanted.seed + index;
  const about = element("p", { textContent: `${wanted.prompt} · seed ${seed} · guidance ${wanted.guidance} · temperature ${wanted.temperature}` });
  const buttons = element("div", { className: "buttons" });
  const item = element("li", {}, image, about, state, buttons);
  $("gallery").prepend(item);
  return { item, image, state, buttons, wanted, seed };
}

// Whether nothing is drawn at the moment; says so otherwise.
function isFree() {
  if (running) $("message").textContent = "a drawing is running; wait for it, or stop it";
  return !running;
}

function finish(card, bytes, again) {
  const url = `data:image/png;base64,${bytes}`;
  card.image.src = url;
  card.state.remove();
  const save = element("a", { href: url, download: `seed-${card.seed}.png`, textContent: "Save" });
  const next = element("button", { type: "button", textContent: "Again with another seed" });
  next.onclick = () => { if (isFree()) { fill(card.wanted, card.seed + 1); again(card.seed + 1); } };
  const edit = element("button", { type: "button", textContent: "Edit" });
  edit.onclick = () => openEditor(url, card);
  card.buttons.append(save, next, edit);
}

function fill(wanted, seed) {
  $("prompt").value = wanted.prompt;
  $("negative_prompt").value = wanted.negative_prompt || "";
  $("seed").value = seed;
  $("guidance").value = wanted.guidance;
  $("temperature").value = wanted.temperature;
  const [name, scale] = Object.entries(wanted.loras || {})[0] || ["", 1];
  $("lora").value = name;
  $("lora_scale").value = scale;
  $("n").value = 1;
  for (const radio of document.querySelectorAll("input[name=ratio]")) radio.checked = Number(radio.value) === wanted.aspect_ratio;
}

async function problem(response) {
  try { return (await response.json()).error.message; } catch { return `the server answers ${response.status}`; }
}

// Reads server-sent events; calls take(event) for each.
async function events(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const line = text.slice(0, end).split("\n").find((each) => each.startsWith("data: "));
      if (line) take(JSON.parse(line.slice(6)));
    }
  }
}

// What went wrong, in words; browsers call a server that does not answer a TypeError.
function words(error) {
  if (error.name === "AbortError") return "stopped";
  return error instanceof TypeError ? "the server cannot be reached" : error.message;
}

// Draws and shows pictures; again(seed) draws one more in the same way.
async function send(path, wanted, body, extra, again) {
  $("message").textContent = "";
  $("state").textContent = "drawing";
  running = new AbortController();
  $("draw").disabled = $("edit").disabled = true;
  $("stop").disabled = false;
  const cards = [];
  for (let index = 0; index < wanted.n; index++) cards.push(addCard(wanted, index));
  const left = new Set(cards);
  try {
    const response = await fetch(path, { method: "POST", body, headers: { ...headers(), ...extra }, signal: running.signal });
    if (!response.ok) throw new Error(await problem(response));
    await events(response, (event) => {
      if (event.type === "error") throw new Error(event.error.message);
      const card = cards[event.index];
      if (event.type.endsWith(".partial_image")) {
        card.image.src = `data:image/png;base64,${event.b64_json}`;
        card.state.textContent = `scale ${event.scale + 1} of ${event.num_scales}`;
      } else {
        finish(card, event.b64_json, again);
        left.delete(card);
      }
    });
    if (left.size) throw new Error("the connection ended before all pictures were there");
  } catch (error) {
    $("message").textContent = words(error);
  } finally {
    const drawn = cards.length - left.size;
    $("state").textContent = drawn ? `${drawn} ${drawn > 1 ? "pictures" : "picture"} drawn` : "";
    for (const card of left) card.item.remove();
    running = null;
    $("draw").disabled = $("edit").disabled = false;
    $("stop").disabled = true;
  }
}

function openEditor(url, card) {
  const canvas = $("canvas"), picture = new Image();
  picture.onload = () => {
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    editing = { picture, url, card, mask: new Uint8Array(canvas.width * canvas.height) };
    brushAt = { x: canvas.width >> 1, y: canvas.height >> 1 };
    $("brush").max = Math.max(4, canvas.width >> 1);
    $("brush").value = Math.max(4, canvas.width >> 2);
    fill(card.wanted, card.seed);
    paintCanvas();
    $("editor").hidden = false;
    $("editor").scrollIntoView();
    canvas.focus();
  };
  picture.src = url;
}

function paintCanvas() {
  const canvas = $("canvas"), context = canvas.getContext("2d");
  context.drawImage(editing.picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const stripe = Math.max(1, canvas.width >> 6);
  editing.mask.forEach((on, at) => {  // cyan and dark stripes, which show on any picture
    if (!on) return;
    const dark = Math.floor((at % canvas.width + Math.floor(at / canvas.width)) / stripe) % 2;
    const tint = dark ? [0, 40, 40] : [0, 255, 255];
    for (let channel = 0; channel < 3; channel++) pixels.data[4 * at + channel] = (pixels.data[4 * at + channel] + tint[channel]) / 2;
  });
  context.putImageData(pixels, 0, 0);
  context.strokeStyle = "#fff";
  context.lineWidth = Math.max(1, canvas.width / 200);
  context.beginPath();
  context.arc(brushAt.x, brushAt.y, Number($("brush").value) / 2, 0, 7);
  context.stroke();
}

function paintAt(x, y) {
  const { width, height } = $("canvas"), radius = Number($("brush").value) / 2;
  for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height, y + radius); row++)
    for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width, x + radius); column++)
      if ((row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2 <= radius ** 2) editing.mask[row * width + column] = 1;
}

function place(event) {
  const canvas = $("canvas"), box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) * canvas.width / box.width, y: (event.clientY - box.top) * canvas.height / box.height };
}

function onPointer(event) {
  // A second finger would draw a line from the first one.
  if (!editing || !event.isPrimary || (event.type === "pointermove" && !event.buttons)) return;
  if (event.type === "pointerdown") $("canvas").setPointerCapture(event.pointerId);
  const from = event.type === "pointerdown" ? place(event) : brushAt, to = place(event);
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
  for (let step = 0; step <= steps; step++) paintAt(from.x + (to.x - from.x) * step / steps, from.y + (to.y - from.y) * step / steps);
  brushAt = to;
  paintCanvas();
}

function onKey(event) {
  const canvas = $("canvas"), step = Math.max(1, canvas.width >> 5);
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (moves[event.key]) {
    brushAt.x = Math.min(canvas.width, Math.max(0, brushAt.x + moves[event.key][0]));
    brushAt.y = Math.min(canvas.height, Math.max(0, brushAt.y + moves[event.key][1]));
  } else if (event.key === " ") paintAt(brushAt.x, brushAt.y);
  else if (event.key === "Delete") editing.mask.fill(0);
  else return;
  event.preventDefault();
  paintCanvas();
}

async function drawPainted() {
  if (!editing || !isFree() || !$("form").reportValidity()) return;
  if (!editing.mask.some(Boolean)) { $("message").textContent = "paint what to draw again first"; return; }
  $("edit").disabled = true;  // until it is sent and answered
  const { width, height } = $("canvas"), canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  editing.mask.forEach((on, at) => { pixels.data.fill(on ? 255 : 0, 4 * at, 4 * at + 3); pixels.data[4 * at + 3] = 255; });
  context.putImageData(pixels, 0, 0);
  const bytes = Uint8Array.from(atob(editing.url.split(",")[1]), (each) => each.charCodeAt(0));
  // An edit keeps the shape of its picture, whatever the form says.
  const wanted = { ...settings(), aspect_ratio: editing.card.wanted.aspect_ratio };
  await sendEdit(wanted, new Blob([bytes], { type: "image/png" }), await canvas.convertToBlob({ type: "image/png" }));
}

async function sendEdit(wanted, image, mask) {
  const form = new FormData();
  form.append("image", image, "image.png");
  form.append("mask", mask, "mask.png");
  for (const name of ["prompt", "n", "seed", "guidance", "temperature", "negative_prompt"])
    if (wanted[name] !== undefined) form.append(name, String(wanted[name]));
  if (wanted.loras) form.append("loras", JSON.stringify(wanted.loras));
  form.append("stream", "true");
  await send("v1/images/edits", wanted, form, {}, (seed) => sendEdit({ ...wanted, seed, n: 1 }, image, mask));
}

async function look() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) throw new Error(await problem(response));
    const found = await response.json();
    $("about").textContent = `model ${found.data[0].id}`;
    for (const name of found.loras) $("lora").append(element("option", { value: name, textContent: name }));
    $("lora_label").hidden = $("scale_label").hidden = !found.loras.length;
  } catch (error) { $("about").textContent = words(error); }
}

$("form").onsubmit = (event) => {
  event.preventDefault();
  if (!isFree()) return;
  const wanted = settings(), again = () => $("form").requestSubmit();
  send("v1/images/generations", wanted, JSON.stringify(wanted), { "Content-Type": "application/json" }, again);
};
$("stop").onclick = () => running && running.abort();
$("key").onchange = () => { $("lora").replaceChildren(element("option", { value: "", textContent: "none" })); look(); };
$("clear").onclick = () => { editing.mask.fill(0); paintCanvas(); };
$("edit").onclick = drawPainted;
$("close").onclick = () => { $("editor").hidden = true; editing = null; };
$("brush").oninput = () => editing && paintCanvas();
for (const name of ["pointerdown", "pointermove"]) $("canvas").addEventListener(name, onPointer);
$("canvas").addEventListener("keydown", onKey);
makeRatios();
look();
