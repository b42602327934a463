// What the page has its worker do: one call, one promise.

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let numJobs = 0;

worker.addEventListener("message", ({ data: { id, output, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(output);
  else reject(new Error(error));
});
worker.addEventListener("error", () => {
  for (const { reject } of waiting.values()) reject(new Error("this browser did not start the page's worker"));
  waiting.clear();
});

function start(job, input) {
  return new Promise((resolve, reject) => {
    waiting.set(++numJobs, { resolve, reject });
    worker.postMessage({ id: numJobs, job, input });
  });
}

/** {bitmap, whole, width, height} of a file, see worker.js; rejected for what the browser cannot read. */
export const readImage = (file) => start("readImage", file);

/** A small bitmap of a file; rejected as above. */
export const readThumbnail = (file) => start("readThumbnail", file);

/** {mask, pixels, outlines} of each segmentation, see worker.js and masks.js; rejected for a damaged one. */
export const traceMasks = (segmentations) => start("traceMasks", segmentations);
