// Keypoints as points and lines; no document, so that it runs outside a browser too. The server draws the same.

// Of a keypoint that is drawn; as a probability of one position among thousands that is much.
const LEAST_SCORE = 0.05;
const LEFT = [255, 150, 20];
const RIGHT = [40, 170, 255];
const MIDDLE = [90, 225, 110];

/**
 * What is drawn of an object: {lines: [{from, to, color}], points: [{at, color}]} in pixels of the picture.
 *
 * keypoints [x, y, score, ...], whole numbers at the middle of a pixel; label has names (keypoints) and pairs of numbers
 * from 1 (skeleton), or neither.
 */
export function readSkeleton(keypoints, label) {
  const names = label?.keypoints ?? [];
  const found = new Map();
  for (let index = 0; 3 * index < keypoints.length; index++) {
    const [x, y, score] = keypoints.slice(3 * index, 3 * index + 3);
    if (score > LEAST_SCORE) found.set(index, [x + 0.5, y + 0.5]);
  }
  const pairs = (label?.skeleton ?? []).map(([start, end]) => [start - 1, end - 1]);
  const joined = pairs.filter(([start, end]) => found.has(start) && found.has(end));
  return {
    lines: joined.map((pair) => ({ from: found.get(pair[0]), to: found.get(pair[1]), color: sideColor(names, pair) })),
    points: [...found].map(([index, at]) => ({ at, color: sideColor(names, [index]) })),
  };
}

/** The colour of one side when all the keypoints are, as [r, g, b]. */
function sideColor(names, indices) {
  for (const [side, color] of [["left", LEFT], ["right", RIGHT]]) {
    if (indices.every((index) => names[index]?.startsWith(side))) return color;
  }
  return MIDDLE;
}

/** Draw each line in a dark rim; unit = length on the canvas's scale that one pixel of the screen has. */
export function drawSkeleton(context, skeleton, unit) {
  context.lineCap = "round";
  for (const rim of [true, false]) {
    context.lineWidth = (rim ? 5 : 3) * unit;
    for (const { from, to, color } of skeleton.lines) {
      context.strokeStyle = rim ? "rgb(15 15 15)" : `rgb(${color})`;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    }
  }
  context.lineWidth = unit;
  context.strokeStyle = "rgb(15 15 15)";
  for (const { at, color } of skeleton.points) {
    context.fillStyle = `rgb(${color})`;
    context.beginPath();
    context.arc(...at, 3.5 * unit, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}
