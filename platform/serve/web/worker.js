// A worker: shrinks images and traces masks beside the page, which stays quick meanwhile.
import { countPixels, readMask, traceOutlines } from "./masks.js";

const LONGEST_EDGE = 2560; // of the copy of an image that is drawn while it is not zoomed in
const OUTLINE_EDGE = 1600; // outlines are not finer than this along the longer edge

const MOST_PIXELS = 100e6; // of an image that is kept whole, four bytes each
const THUMBNAIL_EDGE = 192;

const JOBS = { readImage, readThumbnail, traceMasks };

self.addEventListener("message", async ({ data: { id, job, input } }) => {
  try {
    const { output, moved } = await JOBS[job](input);
    self.postMessage({ id, output }, moved);
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});

/** {bitmap, whole, width, height} of a file: a copy of bounded size, all pixels if it is larger, and its size in them. */
async function readImage(file) {
  const whole = await createImageBitmap(file);
  const { width, height } = whole;
  const bitmap = await shrink(whole, LONGEST_EDGE);
  if (bitmap === whole) return { output: { bitmap, whole: null, width, height }, moved: [bitmap] };
  if (width * height <= MOST_PIXELS) return { output: { bitmap, whole, width, height }, moved: [bitmap, whole] };
  whole.close();
  return { output: { bitmap, whole: null, width, height }, moved: [bitmap] };
}

/** A small copy of a file's image. */
async function readThumbnail(file) {
  const whole = await createImageBitmap(file);
  const bitmap = await shrink(whole, THUMBNAIL_EDGE);
  if (bitmap !== whole) whole.close();
  return { output: bitmap, moved: [bitmap] };
}

/** A copy whose longer edge is bounded, or the same bitmap where it is short enough. */
async function shrink(whole, longest) {
  const scale = longest / Math.max(whole.width, whole.height);
  if (scale >= 1) return whole;
  const [resizeWidth, resizeHeight] = [whole.width, whole.height].map((length) => Math.max(1, Math.round(length * scale)));
  return createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

/** {mask, pixels, outlines} of each segmentation, null where there is none. */
function traceMasks(segmentations) {
  const output = segmentations.map((segmentation) => segmentation && traceMask(segmentation));
  const traced = output.filter(Boolean);
  const moved = traced.flatMap(({ mask, outlines }) => [mask.ends.buffer, ...outlines.map((points) => points.buffer)]);
  return { output, moved };
}

function traceMask(segmentation) {
  const mask = readMask(segmentation);
  const scale = Math.min(1, OUTLINE_EDGE / Math.max(mask.height, mask.width));
  return { mask, pixels: countPixels(mask), outlines: traceOutlines(mask, scale) };
}
