// The page: hands a photograph to the server and shows what it found; scores and classes are filtered here.
import { toResults } from "./coco.js";
import { classColor } from "./colors.js";
import { readPhotograph } from "./jobs.js";
import { askKey, busy, fail, tell } from "./notices.js";
import { element, Legend, listTimes, Objects, percent } from "./panel.js";
import { listSamples } from "./samples.js";
import { Server, ServerError } from "./server.js";
import { makeShapes, paintShapes } from "./shapes.js";
import { Stage } from "./stage.js";

const get = (id) => document.getElementById(id);
const SHOWN = ["masks", "boxes", "labels", "keypoints"];

const server = new Server((refused) => askKey(refused).finally(() => setTimeout(tellPrograms)));
const stage = new Stage(get("frame"));
const legend = new Legend(get("legend"), (hidden) => refresh({ hidden }));
const objects = new Objects(get("objects"), point);
const state = {
  model: null, // what the server says of it
  result: null, // {fileName, photograph, answer, shapes} of the photograph that is shown
  hidden: new Set(), // category ids
  pinned: null, // shape that was chosen by click or key
  hovered: null, // shape under the mouse
  request: null, // AbortController of the photograph that is being looked at
};

async function start() {
  listen();
  tellPrograms();
  await attempt(() => Promise.all([loadModel(), loadSamples()]));
}

async function loadSamples() {
  const count = await listSamples(get("sample-list"), server, open);
  get("samples").hidden = count === 0;
}

async function loadModel() {
  state.model = await server.json("v1/model");
  const { name, version, labels, limits, masks, keypoints } = state.model;
  const classes = labels.length === 1 ? "1 class" : `${labels.length} classes`;
  get("model").textContent = `${name}${version ? `, version ${version}` : ""}, ${classes}`;
  get("limits").textContent = `up to ${megabytes(limits.max_request_bytes)} and ${limits.max_image_pixels / 1e6} megapixels`;
  get("classes").replaceChildren(...labels.map((label) => element("li", { textContent: label.name })));
  get("show-masks").parentElement.hidden = !masks;
  get("show-keypoints").parentElement.hidden = !keypoints;
  tellPrograms();
}

function listen() {
  get("file").addEventListener("change", (event) => openFiles(event.target.files));
  get("another").addEventListener("click", () => get("file").click());
  get("save-coco").addEventListener("click", saveCoco);
  get("save-picture").addEventListener("click", async () => save(await stage.toBlob(), "png"));
  get("cancel").addEventListener("click", cancel);
  get("dismiss").addEventListener("click", () => fail(null));
  get("threshold").addEventListener("input", () => refresh());
  for (const name of SHOWN) get(`show-${name}`).addEventListener("change", () => refresh());
  for (const name of ["classes", "objects"]) get(`color-${name}`).addEventListener("change", () => refresh({ repaint: true }));
  get("frame").addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") point(stage.find(event.clientX, event.clientY), false);
  });
  get("frame").addEventListener("pointerleave", () => point(null, false));
  get("frame").addEventListener("click", (event) => point(stage.find(event.clientX, event.clientY), true));
  document.addEventListener("keydown", (event) => event.key === "Escape" && !get("key-dialog").open && letGo());
  listenForFiles();
}

/** Files may be dropped anywhere on the page, or pasted. */
function listenForFiles() {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    openFiles(event.dataTransfer.files, "What was dropped is no file");
  });
  document.addEventListener("paste", (event) => {
    if (!event.target.closest?.("input, dialog")) openFiles(event.clipboardData.files, "What was pasted is no picture");
  });
}

function openFiles(files, otherwise) {
  const file = files[0];
  if (file) open(file.name, async () => file, files.length);
  else if (otherwise) fail(`${otherwise}.`);
  get("file").value = ""; // the same file may be chosen again
}

/** Send the file that `read` gives to the server and show the answer; what came before is given up. */
async function open(fileName, read, count = 1) {
  state.request?.abort();
  const request = (state.request = new AbortController());
  fail(null);
  busy(`Looking for objects in ${fileName}`);
  try {
    const file = await read();
    const result = await look(file, fileName, request);
    if (state.request !== request) return; // another photograph came meanwhile
    show(result);
    if (count > 1) fail(`${fileName} is shown; of ${count} files only the first is taken.`);
  } catch (error) {
    if (state.request !== request || error.name === "AbortError") return;
    restore();
    fail(`${fileName}: ${error.message}`, error.again && (() => open(fileName, read, count)));
  } finally {
    if (state.request === request) busy(null);
  }
}

async function look(file, fileName, request) {
  const most = state.model?.limits.max_request_bytes;
  if (file.size > most) {
    throw new ServerError(`${megabytes(file.size)} is too much; this server takes at most ${megabytes(most)}`);
  }
  const reading = readPhotograph(file).catch(() => null);
  reading.then((photograph) => photograph && state.request === request && present(photograph));
  const began = performance.now();
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await server.json("v1/predict", { method: "POST", body: file, headers, signal: request.signal });
  const answered = performance.now();
  const photograph = await reading;
  if (!photograph) throw new Error("the server could read this file, but this browser cannot show it");
  if (photograph.width !== answer.image.width || photograph.height !== answer.image.height) {
    const seen = `${photograph.width} x ${photograph.height}, the server ${answer.image.width} x ${answer.image.height}`;
    throw new Error(`this browser sees ${seen} pixels`);
  }
  if (state.model && answer.model.version !== state.model.version) await loadModel(); // it was replaced meanwhile
  const ready = performance.now();
  const shapes = await makeShapes(answer.detections, state.model?.labels ?? []);
  const seconds = { roundTrip: (answered - began) / 1000, drawing: (performance.now() - ready) / 1000 };
  return { fileName, photograph, answer, shapes, seconds };
}

/** Put a photograph on the stage before anything is known of it; the results of another one are out of reach. */
function present(photograph) {
  get("results").inert = true;
  get("drop").hidden = true;
  get("frame").hidden = false;
  point(null, true);
  stage.show(photograph);
}

/** Back to what was there before a photograph that came to nothing. */
function restore() {
  if (state.result) {
    present(state.result.photograph);
    get("results").inert = false;
    refresh();
  } else {
    get("drop").hidden = false;
    get("frame").hidden = true;
  }
}

function show(result) {
  const focusLost = get("drop").contains(document.activeElement) || document.activeElement === document.body;
  Object.assign(state, { result, hidden: new Set() });
  present(result.photograph);
  get("results").inert = false;
  get("results").hidden = false;
  get("about").hidden = true;
  const { answer, shapes, seconds, fileName } = result;
  const { width, height } = answer.image;
  get("source").textContent = `${fileName}, ${width} × ${height} pixels`;
  legend.fill(new Map(shapes.map(({ category_id, category }) => [category_id, category])));
  objects.fill(shapes);
  get("save-coco").title = `All ${shapes.length} objects as a COCO results file, whatever the least score`;
  const model = answer.seconds.predict === undefined ? "" : `, model ${Math.round(answer.seconds.predict * 1000)} ms`;
  get("timing-summary").textContent = `Round trip ${Math.round(seconds.roundTrip * 1000)} ms${model}`;
  listTimes(get("times"), seconds.roundTrip, answer.seconds, seconds.drawing);
  refresh({ repaint: true });
  if (focusLost) get("summary").focus({ preventScroll: true });
}

/** Draw and list what the controls let through; asks the server nothing. */
function refresh({ hidden = state.hidden, repaint = false } = {}) {
  const threshold = Number(get("threshold").value);
  get("threshold-value").textContent = `${threshold} %`;
  get("threshold").setAttribute("aria-valuetext", `${threshold} %`);
  if (!state.result) return;
  state.hidden = hidden;
  const { shapes } = state.result;
  if (repaint) repaintShapes(shapes);
  const above = shapes.filter(({ score }) => score >= threshold / 100);
  const shown = above.filter(({ category_id }) => !hidden.has(category_id));
  if (!shown.includes(state.pinned)) state.pinned = null;
  if (!shown.includes(state.hovered)) state.hovered = null;
  stage.draw({ shapes: shown, ...Object.fromEntries(SHOWN.map((name) => [name, get(`show-${name}`).checked])) });
  const counts = new Map();
  for (const { category_id } of above) counts.set(category_id, (counts.get(category_id) ?? 0) + 1);
  get("lists").hidden = above.length === 0;
  legend.count(counts);
  objects.limit(shown);
  singleOut();
  summarize(shown, threshold);
}

function repaintShapes(shapes) {
  const byClass = get("color-classes").checked;
  paintShapes(shapes, byClass);
  const indices = new Map(shapes.map(({ category_id, classIndex }) => [category_id, classIndex]));
  legend.paint((id) => byClass && classColor(indices.get(id)));
  objects.paint();
}

function summarize(shown, threshold) {
  const names = new Map();
  for (const { category } of shown) names.set(category, (names.get(category) ?? 0) + 1);
  const listed = [...names].map(([name, count]) => `${count} ${name}`).join(", ");
  const number = shown.length === 1 ? "1 object" : `${shown.length || "No"} objects`;
  const best = state.result.shapes[0];
  const rest = best && !shown.length ? `; the best of all has ${percent(best.score)}` : "";
  get("summary").textContent = `${number}${rest}`;
  get("picture").setAttribute("aria-label", `Photograph ${state.result.fileName}: ${number}${listed && `, ${listed}`}`);
  tell(`${number} with a score of ${threshold} % and more${listed && `: ${listed}`}${rest}`);
}

/** Single an object out: until the mouse leaves it, or for longer (keep); null lets go. */
function point(shape, keep) {
  if (keep) Object.assign(state, { pinned: shape, hovered: null });
  else state.hovered = shape;
  singleOut();
}

function singleOut() {
  const shape = state.hovered ?? state.pinned;
  stage.singleOut(shape);
  objects.mark(shape);
  get("frame").classList.toggle("found", shape !== null);
}

/** Esc: what was begun last is given up first. */
function letGo() {
  if (!get("busy").hidden) cancel();
  else if (state.pinned || state.hovered) point(null, true);
  else fail(null);
}

function cancel() {
  state.request?.abort();
  state.request = null;
  busy(null);
  restore();
  tell("Cancelled");
}

/** Do something that may fail, now and whenever the reader tries again. */
async function attempt(action) {
  fail(null);
  try {
    await action();
  } catch (error) {
    fail(`The page cannot start: ${error.message}.`, () => attempt(action));
  }
}

function tellPrograms() {
  const key = server.hasKey ? ' \\\n  -H "Authorization: Bearer $KEY"' : "";
  get("example").textContent = `curl${key} \\\n  -H Content-Type:image/jpeg \\\n  --data-binary @photo.jpg ${new URL("v1/predict", location)}`;
}

function saveCoco() {
  const { answer, fileName } = state.result;
  save(new Blob([JSON.stringify(toResults(answer.detections, fileName))], { type: "application/json" }), "json");
}

function save(blob, ending) {
  const stem = state.result.fileName.replace(/\.[^.]*$/, "") || "photograph";
  const link = element("a", { href: URL.createObjectURL(blob), download: `${stem}-maskray.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.round(bytes / 1e3)} kB` : `${Math.round(bytes / 1e5) / 10} MB`;
}

start();
