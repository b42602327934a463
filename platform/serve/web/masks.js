// COCO run-length masks: which pixels they hold, and their outlines; no document, so that it runs outside a browser too.

/** Run lengths of a compressed COCO mask: background first, then in turns, down the columns. */
export function decodeCounts(text) {
  const counts = [];
  let position = 0;
  while (position < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      if (position >= text.length) throw new Error("mask is cut short");
      const code = text.charCodeAt(position++) - 48;
      value |= (code & 0x1f) << shift;
      shift += 5;
      more = (code & 0x20) !== 0;
      if (!more && code & 0x10 && shift < 32) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/**
 * A mask as {height, width, ends}: pixel number at which each run ends, counted down the columns, background first.
 *
 * segmentation is {size: [height, width], counts}. Throws for counts that do not fill the size.
 */
export function readMask({ size: [height, width], counts }) {
  const ends = Uint32Array.from(decodeCounts(counts));
  let total = 0;
  for (let index = 0; index < ends.length; index++) ends[index] = total += ends[index];
  if (total !== height * width) throw new Error(`mask has ${total} pixels, not ${height} x ${width}`);
  return { height, width, ends };
}

/** Whether a mask holds the pixel at column x and row y; false outside the picture. */
export function isInside({ height, width, ends }, x, y) {
  if (x < 0 || y < 0 || x >= width || y >= height) return false;
  const pixel = x * height + y;
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > pixel) high = middle;
    else low = middle + 1;
  }
  return low % 2 === 1;
}

/** Number of pixels of a mask. */
export function countPixels({ ends }) {
  let count = 0;
  for (let run = 1; run < ends.length; run += 2) count += ends[run] - ends[run - 1];
  return count;
}

/** First and last column and row of a mask as [left, top, right, bottom], the last two exclusive; null if empty. */
function findExtent({ height, ends }) {
  let [left, top, right, bottom] = [Infinity, height, 0, 0];
  for (let run = 1; run < ends.length; run += 2) {
    const [start, last] = [ends[run - 1], ends[run] - 1];
    if (last < start) continue;
    const [first, final] = [Math.floor(start / height), Math.floor(last / height)];
    left = Math.min(left, first);
    right = Math.max(right, final + 1);
    top = first === final ? Math.min(top, start % height) : 0;
    bottom = first === final ? Math.max(bottom, (last % height) + 1) : height;
  }
  return right ? [left, top, right, bottom] : null;
}

/**
 * A mask sampled at a scale of at most 1, with an empty rim of one cell around it.
 *
 * Gives {left, top, width, height, cells: Uint8Array 0/1 down the columns}, left and top of the rim in cells.
 */
export function sampleMask(mask, scale) {
  const extent = findExtent(mask);
  if (!extent) return { left: 0, top: 0, width: 0, height: 0, cells: new Uint8Array(0) };
  // The first cell whose middle lies at or behind an edge between pixels.
  const cellAt = (edge) => Math.max(0, Math.ceil(edge * scale - 0.5));
  const [left, top, right, bottom] = extent.map(cellAt);
  const [width, height] = [right - left + 2, bottom - top + 2];
  const cells = new Uint8Array(width * height);
  let run = 1;
  for (let column = left; column < right; column++) {
    const begin = Math.floor((column + 0.5) / scale) * mask.height;
    const end = begin + mask.height;
    while (run < mask.ends.length && mask.ends[run] <= begin) run += 2;
    for (let at = run; at < mask.ends.length && mask.ends[at - 1] < end; at += 2) {
      const first = cellAt(Math.max(mask.ends[at - 1] - begin, 0));
      const last = cellAt(Math.min(mask.ends[at] - begin, mask.height));
      const start = (column - left + 1) * height + 1 - top;
      if (last > first) cells.fill(1, start + first, start + last);
    }
  }
  return { left: left - 1, top: top - 1, width, height, cells };
}

/**
 * The outlines of a mask as closed polygons in pixels of the picture, holes too: an array of Float32Array x y x y ...
 *
 * They run through the middles of the edges between inside and outside, which rounds the steps off by half a cell.
 * A cell is 1 / scale pixels; scale is at most 1.
 */
export function traceOutlines(mask, scale) {
  const sample = sampleMask(mask, scale);
  const { width, height, cells } = sample;
  const seen = new Uint8Array(cells.length);
  const outlines = [];
  for (let x = 1; x < width - 1; x++) {
    for (let y = 1; y < height - 1; y++) {
      const cell = x * height + y;
      // Every outline passes along the top of some cell, with the inside to the right of the way.
      if (!cells[cell] || cells[cell - 1] || seen[cell]) continue;
      const points = followOutline(cells, height, x, y, seen);
      for (let index = 0; index < points.length; index += 2) {
        points[index] = (points[index] + sample.left) / scale;
        points[index + 1] = (points[index + 1] + sample.top) / scale;
      }
      outlines.push(Float32Array.from(points));
    }
  }
  return outlines;
}

const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // right, down, left, up
const AHEAD_RIGHT = [[0, 0], [-1, 0], [-1, -1], [0, -1]]; // cell at the right hand beyond a corner, from the corner
const AHEAD_LEFT = [[0, -1], [0, 0], [-1, 0], [-1, -1]];

function followOutline(cells, height, startX, startY, seen) {
  const points = [];
  let [x, y, way, before] = [startX, startY, 0, -1];
  do {
    if (way === 0) seen[x * height + y] = 1;
    const [stepX, stepY] = STEPS[way];
    // Of a straight stretch only the first and the last middle are needed; the last one moves on with it.
    const straight = way === before && points.length >= 4 && isStraight(points, stepX, stepY);
    if (straight) points.length -= 2;
    points.push(x + stepX / 2, y + stepY / 2);
    [x, y, before] = [x + stepX, y + stepY, way];
    const right = cells[(x + AHEAD_RIGHT[way][0]) * height + y + AHEAD_RIGHT[way][1]];
    const left = cells[(x + AHEAD_LEFT[way][0]) * height + y + AHEAD_LEFT[way][1]];
    if (!right) way = (way + 1) % 4;
    else if (left) way = (way + 3) % 4;
  } while (x !== startX || y !== startY || way !== 0);
  return points;
}

/** Whether the last two points lie in the direction of a step. */
function isStraight(points, stepX, stepY) {
  const end = points.length;
  return (points[end - 2] - points[end - 4]) * stepY === (points[end - 1] - points[end - 3]) * stepX;
}
