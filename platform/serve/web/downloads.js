// What the reader takes away: results as a file, the image at full size with what is shown drawn on it, and code.
import { toResults } from "./coco.js";
import { drawShapes } from "./drawing.js";
import { element, get } from "./elements.js";
import { nameBeside } from "./names.js";
import { tell } from "./notices.js";

const COPIED_MILLISECONDS = 2000;
const UNITS = 700; // pixels of the shorter edge for which lines and labels are as large as on the page

export function saveCoco({ answer, fileName }) {
  const text = JSON.stringify(toResults(answer.detections, fileName));
  save(new Blob([text], { type: "application/json" }), nameBeside(fileName, "json"));
}

export function saveImage(blob, fileName) {
  save(blob, nameBeside(fileName, "png"));
}

/** The whole image {bitmap, whole, width, height} in its own pixels with shapes drawn as wanted; null if too large here. */
export async function drawWhole({ bitmap, whole, width, height }, shapes, wanted) {
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(whole ?? bitmap, 0, 0, width, height);
  const ratio = Math.max(1, Math.min(width, height) / UNITS);
  drawShapes(context, shapes, wanted, { scale: 1, left: 0, top: 0, ratio }, [0, 0, width, height]);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  canvas.width = canvas.height = 0; // its memory goes now
  return blob;
}

/** Put the text of an element into the clipboard; without TLS browsers let only a selection be copied. */
export async function copyText(id) {
  const text = get(id).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(get(id));
    document.execCommand("copy");
  }
  get("copy").textContent = "Copied";
  setTimeout(() => (get("copy").textContent = "Copy"), COPIED_MILLISECONDS);
  tell("Copied");
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
