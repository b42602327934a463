// What the server found, made ready to be drawn: outlines as paths, skeletons, titles and colours.
import { classColor, objectColor } from "./colors.js";
import { traceMasks } from "./jobs.js";
import { percent } from "./panel.js";
import { readSkeleton } from "./skeletons.js";

/**
 * Detections as shapes, in the same order: what the server said of them, and
 *
 * mask (of masks.js), pixels (its area, or that of the box), path of its outlines and skeleton in pixels of the
 * photograph, title, and classIndex among the labels.
 */
export async function makeShapes(detections, labels) {
  const traced = await traceMasks(detections.map(({ segmentation }) => segmentation ?? null));
  const indices = new Map(labels.map((label, index) => [label.id, index]));
  return detections.map((found, index) => {
    const one = traced[index];
    const classIndex = indices.get(found.category_id);
    return {
      ...found,
      mask: one?.mask ?? null,
      pixels: one?.pixels ?? found.bbox[2] * found.bbox[3],
      path: one ? joinOutlines(one.outlines) : null,
      skeleton: found.keypoints ? readSkeleton(found.keypoints, labels[classIndex]) : null,
      title: `${found.category} ${percent(found.score)}`,
      classIndex: classIndex ?? found.category_id,
    };
  });
}

function joinOutlines(outlines) {
  const path = new Path2D();
  for (const points of outlines) {
    path.moveTo(points[0], points[1]);
    for (let index = 2; index < points.length; index += 2) path.lineTo(points[index], points[index + 1]);
    path.closePath();
  }
  return path;
}

const SHADES = 5; // of a class; with more of them its colour would be that of another

/** Give shapes their colours: by class, or one each. */
export function paintShapes(shapes, byClass) {
  const seen = new Map();
  shapes.forEach((shape, index) => {
    const instance = seen.get(shape.classIndex) ?? 0;
    seen.set(shape.classIndex, instance + 1);
    shape.color = byClass ? classColor(shape.classIndex, instance % SHADES) : objectColor(index);
  });
}
