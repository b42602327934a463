// The report's filters, definitions, and the pictures that can be looked into. Classes are indices, -1 none.
"use strict";
const $ = (name) => document.querySelector(name);
const data = JSON.parse($("#pictures").textContent);
const COLORS = { truth: "#3fb950", found: "#58a6ff", wrong: "#ff7b72", missed: "#ffa657" };

// ---- definitions: on hover and on focus
const tip = $("#tip");
const tell = (term) => {
  tip.textContent = document.getElementById(term.getAttribute("aria-describedby")).textContent;
  tip.hidden = false;
  const at = term.getBoundingClientRect(), box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(12, Math.min(at.left, innerWidth - box.width - 12))}px`;
  tip.style.top = `${at.bottom + box.height + 8 > innerHeight ? at.top - box.height - 6 : at.bottom + 6}px`;
};
const hush = () => { tip.hidden = true; };
for (const term of document.querySelectorAll(".term")) {
  for (const kind of ["mouseenter", "focus", "click"]) term.addEventListener(kind, () => tell(term));
  for (const kind of ["mouseleave", "blur"]) term.addEventListener(kind, hush);
}
addEventListener("scroll", hush, true);
addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

// ---- filters by class, error and reason
const chosen = () => ({ class: $("#class").value, error: $("#error").value, reason: $("#reason")?.value ?? "" });
const fits = (shape, { class: k, error }) => (k === "" || shape.k === +k) && (error === "" || shape.error === error);
const shows = (picture, wanted) =>
  (wanted.reason === "" || picture.why.includes(wanted.reason)) &&
  ((wanted.class === "" && wanted.error === "") || picture.shapes.some((shape) => fits(shape, wanted)));
const visible = () => data.pictures.filter((picture) => shows(picture, chosen()));
function filter() {
  const wanted = chosen();
  let count = 0;
  for (const item of document.querySelectorAll(".gallery > li")) {
    item.hidden = !shows(data.pictures[+item.dataset.n], wanted);
    count += item.hidden ? 0 : 1;
  }
  for (const row of document.querySelectorAll("tr[data-class]")) {
    row.hidden = wanted.class !== "" && !row.dataset.class.split(" ").includes(wanted.class);
  }
  for (const row of document.querySelectorAll("tr[data-error]")) {
    row.hidden = wanted.error !== "" && row.dataset.error !== wanted.error;
  }
  const status = $("#count");
  if (status) status.textContent = `${count} of ${data.pictures.length} pictures`;
}
for (const one of document.querySelectorAll(".filters select")) one.addEventListener("change", filter);
$("#clear")?.addEventListener("click", () => {
  for (const one of document.querySelectorAll(".filters select")) one.value = "";
  filter();
});

// ---- one picture, its layers, and a view [x, y, width, height] in its pixels
const viewer = $("#viewer"), stage = $("#stage");
let picture = null, view = null;
const add = (parent, name, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return parent.appendChild(element);
};
const isTruth = (shape) => shape.score === undefined;
const colorOf = (shape) =>
  shape.error === "missed" ? COLORS.missed : shape.error ? COLORS.wrong : isTruth(shape) ? COLORS.truth : COLORS.found;
const labelOf = (shape) =>
  `${data.classes[shape.k]}${isTruth(shape) ? "" : ` ${Math.round(100 * shape.score)} %`}${shape.crowd ? " (crowd)" : ""}` +
  (shape.error ? ` – ${shape.error}` : "");

function drawShapes() {
  const on = Object.fromEntries(["masks", "boxes", "truth", "found", "errors"].map((name) => [name, $(`#on-${name}`).checked]));
  const wanted = chosen(), layer = $("#shapes"), size = view[2] / stage.clientWidth;
  layer.replaceChildren();
  for (const shape of picture.shapes) {
    const asError = on.errors && shape.error;
    if (!(asError || (isTruth(shape) ? on.truth : on.found))) continue;
    if (wanted.class !== "" && shape.k !== +wanted.class) continue;
    const color = on.errors ? colorOf(shape) : isTruth(shape) ? COLORS.truth : COLORS.found;
    const dashes = isTruth(shape) ? "6 4" : "none";
    const line = { stroke: color, "stroke-width": asError ? 3 : 2, "stroke-dasharray": dashes, "stroke-linejoin": "round" };
    if (on.masks && shape.mask) add(layer, "path", { d: shape.mask, fill: color, "fill-opacity": 0.22, ...line });
    if (on.masks && shape.points) add(layer, "path", { d: shape.points, fill: "none", stroke: color, "stroke-width": 4, "stroke-linecap": "round" });
    const [x, y, width, height] = shape.box;
    if (on.boxes || (asError && !(on.masks && shape.mask))) add(layer, "rect", { x, y, width, height, fill: "none", ...line });
    if (on.boxes || asError) {
      const label = add(layer, "text", { x: 0, y: 0 }, labelOf(shape));
      label.setAttribute("transform", `translate(${x + 3 * size} ${y + 15 * size}) scale(${size})`);
    }
  }
}
function setView(next) {
  view = next;
  stage.setAttribute("viewBox", view.join(" "));
  drawShapes();
}
// The whole picture, with what the stage is wider or taller.
function fit() {
  const scale = Math.max(picture.width / stage.clientWidth, picture.height / stage.clientHeight);
  const [width, height] = [stage.clientWidth * scale, stage.clientHeight * scale];
  setView([(picture.width - width) / 2, (picture.height - height) / 2, width, height]);
}
function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) {
  const least = Math.min(picture.width, 24) / view[2], most = (4 * Math.max(picture.width, picture.height)) / view[2];
  const by = Math.min(Math.max(1 / factor, least), most);
  setView([x - (x - view[0]) * by, y - (y - view[1]) * by, view[2] * by, view[3] * by]);
}
// The address of a picture; inside a sandbox, as of MLflow's pages, there is none.
const mark = (hash) => { try { history.replaceState(null, "", hash); } catch { /* no address, no link */ } };
// A box with as much around it.
function look([x, y, width, height]) {
  fit();
  const share = Math.max((3 * width) / view[2], (3 * height) / view[3], 24 / picture.width);
  const [w, h] = [view[2] * share, view[3] * share];
  setView([x + (width - w) / 2, y + (height - h) / 2, w, h]);
}
function open(next) {
  picture = next;
  $("#name").textContent = picture.name;
  $("#why").textContent = picture.why.join(", ");
  if (!viewer.open) viewer.showModal();
  const image = $("#image");
  image.setAttribute("href", document.querySelector(`[data-n="${data.pictures.indexOf(picture)}"] img`).src);
  image.setAttribute("width", picture.width);
  image.setAttribute("height", picture.height);
  stage.setAttribute("aria-label", `${picture.name} with its layers`);
  if ($("#found").contains(document.activeElement)) stage.focus();  // what is replaced loses the focus
  $("#found").replaceChildren(...picture.shapes.filter((shape) => shape.error).map((shape) => {
    const item = document.createElement("li"), button = item.appendChild(document.createElement("button"));
    button.textContent = (isTruth(shape) ? "object: " : "found: ") + labelOf(shape);
    button.addEventListener("click", () => look(shape.box));
    return item;
  }));
  $("#found").hidden = !$("#found").children.length;
  mark(`#picture-${picture.id}`);
  fit();
}
const step = (by) => {
  const all = visible(), at = all.indexOf(picture);
  open(all[(at + by + all.length) % all.length] ?? picture);
};
for (const item of document.querySelectorAll(".gallery > li")) {
  item.querySelector(".thumb").addEventListener("click", () => open(data.pictures[+item.dataset.n]));
}
if (viewer) {
  for (const one of viewer.querySelectorAll("fieldset input")) one.addEventListener("change", drawShapes);
  const presses = { "#closer": () => zoom(1.4), "#farther": () => zoom(1 / 1.4), "#fit": fit, "#next": () => step(1), "#last": () => step(-1), "#close": () => viewer.close() };
  for (const [name, press] of Object.entries(presses)) $(name).addEventListener("click", press);
  const keys = { "+": presses["#closer"], "=": presses["#closer"], "-": presses["#farther"], 0: fit, n: presses["#next"], p: presses["#last"] };
  const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
    const move = event.target === stage && moves[event.key];
    if (move) { setView([view[0] + move[0] * view[2], view[1] + move[1] * view[3], view[2], view[3]]); event.preventDefault(); }
  });
  viewer.addEventListener("close", () => {
    mark("#look");
    document.querySelector(`[data-n="${data.pictures.indexOf(picture)}"] .thumb`).focus();
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), ...place(event));
  }, { passive: false });
  // One finger or the mouse moves, two zoom.
  const fingers = new Map();
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [view[0] + ((event.clientX - box.left) / box.width) * view[2], view[1] + ((event.clientY - box.top) / box.height) * view[3]];
  };
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); });
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (fingers.size === 1) {
      const [x, y] = place(before), [u, v] = place(event);
      setView([view[0] + x - u, view[1] + y - v, view[2], view[3]]);
    }
    const wide = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, event);
    if (wide) zoom(spread() / wide, ...place(event));
  });
  for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  addEventListener("resize", () => { if (viewer.open) fit(); });
  const asked = data.pictures.find((one) => location.hash === `#picture-${one.id}`);
  if (asked) open(asked);
}
filter();
