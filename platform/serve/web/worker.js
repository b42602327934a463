// A worker: shrinks photographs and traces masks beside the page, which stays quick meanwhile.
import { countPixels, readMask, traceOutlines } from "./masks.js";

const LONGEST_EDGE = 2560; // of the copy of a photograph that is drawn
const OUTLINE_EDGE = 1600; // outlines are not finer than this along the longer edge: more is not seen

const JOBS = { readPhotograph, traceMasks };

self.addEventListener("message", async ({ data: { id, job, input } }) => {
  try {
    const { output, moved } = await JOBS[job](input);
    self.postMessage({ id, output }, moved);
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});

/** {bitmap, width, height} of a file: a bitmap of bounded size, and the photograph's own size in pixels. */
async function readPhotograph(file) {
  const whole = await createImageBitmap(file);
  const { width, height } = whole;
  const scale = LONGEST_EDGE / Math.max(width, height);
  if (scale >= 1) return { output: { bitmap: whole, width, height }, moved: [whole] };
  const resizeWidth = Math.max(1, Math.round(width * scale));
  const resizeHeight = Math.max(1, Math.round(height * scale));
  const bitmap = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  whole.close();
  return { output: { bitmap, width, height }, moved: [bitmap] };
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
