// What was found as a COCO results file; no document, so that it runs outside a browser too.

/**
 * Objects as COCO results, which `loadRes` of pycocotools reads: all that the server gave, under one image id.
 *
 * The id is the number that a file is named by, as COCO's are (000000000139.jpg), else 1.
 */
export function toResults(detections, fileName) {
  const image_id = /^\d{1,15}\.\w+$/.test(fileName) ? parseInt(fileName, 10) : 1;
  return detections.map(({ category, ...result }) => ({ image_id, ...result }));
}
