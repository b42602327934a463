// The page: takes images, hands them to the server, a few at a time, and shows what it found.
import { tellModel } from "./about.js";
import { Comparison } from "./compare.js";
import { copyText, drawWhole, saveCoco, saveImage } from "./downloads.js";
import { element, get } from "./elements.js";
import { Gallery, MOST_IMAGES } from "./gallery.js";
import { listenForImages } from "./intake.js";
import { readImage } from "./jobs.js";
import { count, megabytes, shownName } from "./names.js";
import { askKey, busy, fail, tell } from "./notices.js";
import { Queue } from "./queue.js";
import { Results } from "./results.js";
import { listSamples } from "./samples.js";
import { Server, ServerError } from "./server.js";
import { makeShapes } from "./shapes.js";
import { curlSnippet, pythonSnippet } from "./snippets.js";
import { Strip } from "./strip.js";
import { tellTimes } from "./times.js";
import { fillWindow, isWide } from "./zoom_bar.js";

const AT_ONCE = 2; // requests of this page at a time, so that others are answered too
const UNDRAWN = { max_detections: 0 };

const server = new Server(new URL(".", location), (...asked) => askKey(...asked).finally(() => setTimeout(tellPrograms)));
const queue = new Queue(AT_ONCE);
const gallery = new Gallery(look, changed);
const strip = new Strip(get("strip-list"), get("strip-title"), open, remove);
const results = new Results(tellShown);
let comparison = null; // with a second server, where the operator named one
let model = null; // what the server says of it
let wanted = null; // entry of the gallery that is shown, or will be
let turn = 0; // of open(): what began in an earlier one is not shown any more

async function start() {
  listen();
  tellPrograms();
  await attempt(() => Promise.all([loadModel(), loadSamples()]));
}

async function loadSamples() {
  const number = await listSamples(get("sample-list"), server, takeSample);
  get("samples").hidden = number === 0;
}

async function loadModel() {
  model = await server.json("v1/model");
  tellModel(model);
  results.offer(model);
  tellPrograms();
  const second = model.page?.compare_with;
  if (second && !comparison) comparison = new Comparison(second, askKey, queue, compare, (share) => results.split(share));
}

function listen() {
  const mostBytes = () => model?.limits.max_request_bytes ?? 20e6;
  listenForImages({ take, none: fail, addresses: () => model?.page?.image_addresses, mostBytes });
  get("save-coco").addEventListener("click", () => {
    const { entry } = results.shown;
    saveCoco({ answer: entry.result.answer, fileName: entry.fileName });
  });
  get("save-image").addEventListener("click", saveDrawn);
  get("cancel").addEventListener("click", cancel);
  get("dismiss").addEventListener("click", () => fail(null));
  get("clear").addEventListener("click", () => [...gallery.entries].forEach(remove));
  for (const name of ["curl", "python"]) get(`as-${name}`).addEventListener("change", tellPrograms);
  get("copy").addEventListener("click", () => copyText("example"));
  document.addEventListener("keydown", (event) => event.key === "Escape" && !get("key-dialog").open && letGo());
}

/** Take images {name, read}: ask about all, and show the first. */
function take(images) {
  const taken = images.slice(0, MOST_IMAGES).map(({ name, read }) => gallery.add(name, read));
  open(taken[0]);
  if (images.length > MOST_IMAGES) {
    fail(`The first ${MOST_IMAGES} of ${images.length} images are taken; for a whole folder there is the command maskray predict.`);
  }
}

function takeSample(name, read) {
  const entry = gallery.entries.find((other) => other.sample === name && other.state !== "failed");
  if (entry) open(entry);
  else open(Object.assign(gallery.add(name, read), { sample: name }));
}

/** What the server finds in a file, when its turn has come: {answer, labels, roundTrip}, the last in seconds. */
function look(readFile, signal, paused) {
  const send = async () => {
    const file = await readFile();
    const most = model?.limits.max_request_bytes;
    if (file.size > most) {
      throw new ServerError(`${megabytes(file.size)} is too much; this server takes at most ${megabytes(most)}`);
    }
    const began = performance.now();
    const answer = await server.predict(file, signal);
    const roundTrip = (performance.now() - began) / 1000;
    if (model && answer.model.version !== model.version) await loadModel(); // it was replaced meanwhile
    return { answer, labels: model?.labels ?? [], roundTrip };
  };
  return queue.add(send, { signal, paused });
}

/** An entry of the gallery has changed, has come or gone. */
function changed(entry) {
  tellStrip();
  if (entry === wanted && entry.state === "waiting" && entry.busy) busy(entry.busy);
  if (entry.state === "done" && !wanted && gallery.entries.includes(entry)) open(entry, true);
}

function tellStrip() {
  const { entries } = gallery;
  get("strip").hidden = entries.length < 2;
  strip.update(entries, wanted, ({ state, error, result }) => {
    if (state === "waiting") return { text: "waiting", badge: "" };
    if (state === "failed") return { text: `failed, ${error.message}`, badge: "!" };
    const number = result.answer.detections.filter(({ score }) => score >= get("threshold").value / 100).length;
    return { text: count(number, "object"), badge: String(number) };
  });
}

/** Show an entry: its image at once, what was found when it is there; with keep an error that is told stays. */
async function open(entry, keep = false) {
  const mine = ++turn;
  const isCurrent = () => turn === mine;
  if (!keep) fail(null);
  wanted = entry;
  tellStrip();
  if (entry.state === "failed") return giveUp(entry, entry.error);
  busy(entry.busy || `Looking for objects in ${entry.name}`);
  try {
    const file = await gallery.fileOf(entry);
    const reading = readImage(file).catch(() => null);
    reading.then((image) => image && isCurrent() && entry.state === "waiting" && results.present(image));
    const { answer, labels, roundTrip } = await entry.answered;
    const image = await drawWhereNeeded(entry, file, await reading, answer.image);
    const began = performance.now();
    const shapes = await makeShapes(answer.detections, labels);
    if (!isCurrent()) return;
    const before = document.activeElement;
    results.show({ entry, image, shapes, others: null, text: describe(entry, answer) });
    tellTimes({ roundTrip, drawing: (performance.now() - began) / 1000 }, answer.seconds);
    if (before === document.body || document.activeElement === document.body || get("drop").contains(before)) {
      get("summary").focus({ preventScroll: true });
    }
    compare();
  } catch (error) {
    if (isCurrent() && error.name !== "AbortError") giveUp(entry, error);
  } finally {
    if (isCurrent()) busy(null);
  }
}

function describe({ name }, { image: { width, height }, model: { version } }) {
  const by = version === model?.version ? "" : `, found by version ${shownName(version)}`;
  return `${name}, ${width} × ${height} pixels${by}`;
}

/** Tell why an entry cannot be shown, and go back to what was. */
function giveUp(entry, error) {
  busy(null);
  results.restore();
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  const again = () => {
    gallery.start(entry);
    open(entry);
  };
  wanted = results.shown?.entry ?? null;
  tellStrip();
  fail(`${entry.name}: ${error.message}${id}`, (error.again || entry.state !== "failed") && again);
  if (!wanted) {
    const next = gallery.entries.find(({ state }) => state === "done");
    if (next && next !== entry) open(next, true);
  }
}

/** An image as it was read, or as the server draws it where the browser cannot read it or sees it in another size. */
async function drawWhereNeeded(entry, file, image, { width, height }) {
  if (image && image.width === width && image.height === height) return image;
  const signal = entry.controller.signal;
  const draw = () => queue.add(() => server.draw(file, UNDRAWN, signal), { signal });
  return readImage(await gallery.drawnBy(entry, draw));
}

/** Let go of an entry; where it was shown, its neighbour is. */
function remove(entry) {
  const at = gallery.entries.indexOf(entry);
  gallery.remove(entry);
  if (results.shown?.entry === entry) results.clear();
  if (wanted !== entry) return;
  turn++;
  busy(null);
  wanted = null;
  const next = gallery.entries[Math.min(at, gallery.entries.length - 1)];
  if (next) open(next);
  else results.restore();
  tellStrip();
}

/** Ask the second server about the image that is shown, if that is wanted. */
async function compare() {
  const { shown } = results;
  if (!comparison || !shown) return;
  if (!comparison.isOn) {
    comparison.show(null, null);
    if (shown.others) Object.assign(shown, { others: null });
    return results.fill();
  }
  try {
    const { entry } = shown;
    const other = await comparison.find(entry, await gallery.fileOf(entry), entry.result.labels);
    if (results.shown !== shown || !comparison.isOn) return;
    shown.others = other.shapes;
    comparison.show(entry.result.answer.model, other);
    results.fill();
  } catch (error) {
    if (error.name === "AbortError") return;
    comparison.show(null, null);
    fail(error.message, compare);
  }
}

/** What is shown of an image has changed. */
function tellShown(seen, others) {
  if (others) comparison.tell(seen, others);
  tellStrip();
  tellPrograms();
}

/** The image with what is shown on it; the server draws it where it is too large for a canvas of this browser. */
async function saveDrawn() {
  const { entry, image } = results.shown;
  await attempt(async () => {
    const drawn = await drawWhole(image, results.seen, results.wanted);
    saveImage(drawn ?? (await server.draw(await gallery.fileOf(entry), results.options)), entry.fileName);
  }, "It cannot be saved");
}

/** Esc: what was begun last is given up first. */
function letGo() {
  if (!get("busy").hidden) cancel();
  else if (!results.letGo() && isWide()) fillWindow(false);
  else fail(null);
}

function cancel() {
  const entry = wanted;
  turn++;
  busy(null);
  wanted = results.shown?.entry ?? null;
  if (entry.state === "waiting") gallery.remove(entry);
  results.restore();
  tellStrip();
  tell("Cancelled");
}

/** Do something that may fail, now and whenever the reader tries again. */
async function attempt(action, what = "The page cannot start") {
  fail(null);
  try {
    await action();
  } catch (error) {
    fail(`${what}: ${error.message}.`, () => attempt(action, what));
  }
}

function tellPrograms() {
  const snippet = get("as-curl").checked ? curlSnippet : pythonSnippet;
  const fileName = results.shown?.entry.fileName ?? "photo.jpg";
  const request = { url: server.url("v1/predict").href, options: results.options, fileName, withKey: server.hasKey };
  get("example").textContent = snippet(request);
}

start();
