// The page: sends a photograph to the server and shows what it found; scores and classes are filtered here.
import { blendMask, classColor, cropMask, inkOn } from "./masks.js";
import { drawSkeleton, readSkeleton } from "./skeletons.js";

// Canvas pixels of the longer edge, and how far a small photograph is enlarged so that its labels can be read.
const LONGEST_EDGE = 1600;
const MOST_ENLARGED = 2.5;
const get = (id) => document.getElementById(id);
const state = { model: null, image: null, answer: null, shapes: [], hidden: new Set(), pointed: null, request: null };

async function start() {
  get("example").textContent = `curl -H "Content-Type: image/jpeg" --data-binary @photo.jpg ${location.origin}/v1/predict`;
  get("file").addEventListener("change", (event) => event.target.files[0] && predict(event.target.files[0]));
  get("another").addEventListener("click", () => get("file").click());
  get("save").addEventListener("click", save);
  get("threshold").addEventListener("input", show);
  for (const name of ["masks", "keypoints", "boxes", "labels"]) get(`show-${name}`).addEventListener("change", show);
  listenForDrops();
  try {
    state.model = await (await fetch("v1/model")).json();
  } catch (error) {
    return fail(`The server does not answer: ${error.message}`);
  }
  const { name, version, labels, limits, masks, keypoints } = state.model;
  get("show-masks").parentElement.hidden = !masks;
  get("show-keypoints").parentElement.hidden = !keypoints;
  get("model").textContent = `${name}${version ? `, version ${version}` : ""}: ${labels.length} classes`;
  const megabytes = Math.floor(limits.max_request_bytes / 1e6);
  get("limits").textContent = `up to ${megabytes} MB and ${Math.floor(limits.max_image_pixels / 1e6)} megapixels`;
}

function listenForDrops() {
  const stage = get("stage");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    if (event.dataTransfer.files[0]) predict(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) predict(event.clipboardData.files[0]);
  });
}

async function predict(file) {
  state.request?.abort();
  const request = (state.request = new AbortController());
  get("error").hidden = true;
  get("working").hidden = false;
  const began = performance.now();
  try {
    const answer = await ask(file, request.signal);
    const image = await createImageBitmap(file).catch(() => {
      throw new Error("the server read this file, but this browser cannot show it");
    });
    if (state.request !== request) return; // another photograph came meanwhile
    Object.assign(state, { answer, image, hidden: new Set(), pointed: null });
    prepare();
    show();
    const { receive, wait, decode, predict: compute } = answer.seconds;
    const part = (seconds) => `${Math.round(seconds * 1000)} ms`;
    get("timing").textContent =
      `Round trip ${part((performance.now() - began) / 1000)}: receive ${part(receive)}, wait ${part(wait)}, ` +
      `decode ${part(decode)}, model ${part(compute)}`;
  } catch (error) {
    if (error.name !== "AbortError") fail(`${file.name || "Photograph"}: ${error.message}`);
  } finally {
    if (state.request === request) get("working").hidden = true;
    get("file").value = ""; // the same file may be chosen again
  }
}

async function ask(file, signal) {
  const most = state.model?.limits.max_request_bytes;
  if (most && file.size > most) throw new Error(`${file.size} bytes are more than the ${most} allowed`);
  const headers = { "Content-Type": "application/octet-stream" };
  const response = await fetch("v1/predict", { method: "POST", body: file, headers, signal });
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Error(`the server answered ${response.status}: ${text.slice(0, 200)}`);
  }
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Size the canvas and make every detection ready to be drawn. */
function prepare() {
  const { width, height } = state.answer.image;
  const scale = Math.min(MOST_ENLARGED, LONGEST_EDGE / Math.max(width, height));
  const canvas = get("picture");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const classes = new Map((state.model?.labels ?? []).map((label, index) => [label.id, index]));
  const seen = new Map();
  state.shapes = state.answer.detections.map((found) => {
    const instance = seen.get(found.category_id) ?? 0;
    seen.set(found.category_id, instance + 1);
    const classIndex = classes.get(found.category_id) ?? found.category_id;
    const label = state.model?.labels[classes.get(found.category_id)];
    return {
      ...found,
      box: found.bbox.map((value) => value * scale),
      mask: found.segmentation ? cropMask(found.segmentation, found.bbox, scale) : null,
      skeleton: found.keypoints ? readSkeleton(found.keypoints, label, scale) : null,
      classIndex,
      color: classColor(classIndex, instance),
    };
  });
  get("drop").hidden = true;
  canvas.hidden = false;
  get("controls").hidden = false;
}

/** Draw what the controls let through; asks the server nothing. */
function show() {
  const threshold = Number(get("threshold").value);
  get("threshold-value").textContent = `${threshold} %`;
  if (!state.answer) return;
  const above = state.shapes.filter((shape) => shape.score * 100 >= threshold);
  const shown = above.filter((shape) => !state.hidden.has(shape.category_id));
  draw(shown);
  listClasses(above);
  listObjects(shown);
  const best = state.shapes[0];
  const nothing = best ? `no objects; the best score is ${Math.round(best.score * 100)} %` : "no objects found";
  get("summary").textContent = shown.length ? `${shown.length} ${shown.length === 1 ? "object" : "objects"}` : nothing;
}

function draw(shown) {
  const canvas = get("picture");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(state.image, 0, 0, canvas.width, canvas.height);
  const largestFirst = [...shown].sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  if (get("show-masks").checked) {
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    for (const shape of largestFirst) {
      const tint = shape === state.pointed ? 0.75 : 0.45;
      if (shape.mask) blendMask(pixels.data, canvas.width, shape.mask, shape.color, tint);
    }
    context.putImageData(pixels, 0, 0);
  }
  const stroke = Math.max(1.5, canvas.width / 500);
  for (const shape of largestFirst) {
    if (!get("show-boxes").checked && shape !== state.pointed) continue;
    context.strokeStyle = `rgb(${shape.color})`;
    context.lineWidth = shape === state.pointed ? 2 * stroke : stroke;
    context.strokeRect(...shape.box);
  }
  if (get("show-keypoints").checked) {
    for (const shape of largestFirst) if (shape.skeleton) drawSkeleton(context, shape.skeleton, 2 * stroke);
  }
  if (get("show-labels").checked) {
    const taken = []; // small objects have the least room and choose first
    for (const shape of largestFirst.reverse()) drawLabel(context, canvas, shape, taken);
  }
  const names = shown.map((shape) => `${shape.category} ${Math.round(shape.score * 100)} %`);
  canvas.setAttribute("aria-label", `Photograph with ${shown.length} objects: ${names.join(", ")}`);
}

function drawLabel(context, canvas, shape, taken) {
  const size = Math.max(12, Math.round(canvas.width / 75));
  const text = `${shape.category} ${Math.round(shape.score * 100)} %`;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const place = placeLabel(shape.box, context.measureText(text).width + size * 0.6, size * 1.35, canvas, taken);
  taken.push(place);
  context.fillStyle = `rgb(${shape.color})`;
  context.fillRect(place.x, place.y, place.width, place.height);
  context.fillStyle = inkOn(shape.color);
  context.textBaseline = "middle";
  context.fillText(text, place.x + size * 0.3, place.y + place.height / 2);
}

/** The first place for a label that hides no other: above its box, below it, inside it. */
function placeLabel([left, top, boxWidth, boxHeight], width, height, canvas, taken) {
  const right = left + boxWidth - width;
  const bottom = top + boxHeight;
  const corners = [[left, top - height], [left, bottom], [right, top - height], [left, top], [right, bottom]];
  const places = corners.map(([x, y]) => ({
    x: Math.max(0, Math.min(x, canvas.width - width)),
    y: Math.max(0, Math.min(y, canvas.height - height)),
    width,
    height,
  }));
  const free = (a) =>
    !taken.some((b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height);
  return places.find(free) ?? places[0];
}

function listClasses(above) {
  const focused = document.activeElement?.dataset?.category;
  const counts = new Map();
  for (const shape of above) counts.set(shape.category_id, (counts.get(shape.category_id) ?? 0) + 1);
  const rows = [...counts].map(([id, count]) => {
    const { category, classIndex } = above.find((shape) => shape.category_id === id);
    const box = element("input", { type: "checkbox", checked: !state.hidden.has(id) });
    box.dataset.category = id;
    box.addEventListener("change", () => {
      box.checked ? state.hidden.delete(id) : state.hidden.add(id);
      show();
    });
    const row = element("label");
    row.append(box, swatch(classColor(classIndex)), element("span", { textContent: category }), number(String(count)));
    const item = element("li");
    item.append(row);
    return item;
  });
  get("legend").replaceChildren(...rows);
  if (focused) get("legend").querySelector(`[data-category="${focused}"]`)?.focus();
}

function listObjects(shown) {
  const rows = shown.map((shape) => {
    const item = element("li");
    item.append(swatch(shape.color), element("span", { textContent: shape.category }), number(`${Math.round(shape.score * 100)} %`));
    const point = (target) => () => {
      state.pointed = target;
      draw(shown);
    };
    item.addEventListener("mouseenter", point(shape));
    item.addEventListener("mouseleave", point(null));
    return item;
  });
  get("objects").replaceChildren(...rows);
}

function save() {
  get("picture").toBlob((blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: "maskray.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

function fail(message) {
  get("error").textContent = message;
  get("error").hidden = false;
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function swatch(color) {
  const span = element("span", { className: "swatch" });
  span.style.background = `rgb(${color})`;
  return span;
}

function number(text) {
  return element("span", { className: "number", textContent: text });
}

start();
