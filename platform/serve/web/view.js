// Where an image lies in its window, and how large: the arithmetic of zoom and pan; no document.

const MOST_FITTED = 6; // pixels of the page for one of a small image that is fitted into its window
const MOST_SCALE = 64; // single pixels are as large as a fingertip
const STEP = 1.5;

/** Lengths are pixels of the page, scale is pixels of the page for one of the image. */
export class View {
  #window = { width: 1, height: 1 };
  #image = { width: 1, height: 1 };
  #fitted = true;
  scale = 1;
  left = 0; // of the image's corner in the window
  top = 0;

  /** Take the size of the window; an image that was fitted is fitted again, else its middle stays where it was. */
  resize(width, height) {
    const [x, y] = this.toImage(this.#window.width / 2, this.#window.height / 2);
    this.#window = { width: Math.max(1, width), height: Math.max(1, height) };
    if (this.#fitted) return this.fit();
    this.left = this.#window.width / 2 - x * this.scale;
    this.top = this.#window.height / 2 - y * this.scale;
    this.#keepInside();
  }

  /** Show another image, fitted; one of the same size as the last stays where that was. */
  show(width, height) {
    const same = width === this.#image.width && height === this.#image.height;
    this.#image = { width, height };
    if (!same || this.#fitted) this.fit();
  }

  get fitScale() {
    const { width, height } = this.#window;
    return Math.min(width / this.#image.width, height / this.#image.height, MOST_FITTED);
  }

  get isFitted() {
    return this.#fitted;
  }

  /** Whether the image is larger than its window in some direction. */
  get canPan() {
    const { width, height } = this.#image;
    return width * this.scale > this.#window.width + 0.5 || height * this.scale > this.#window.height + 0.5;
  }

  get canZoomIn() {
    return this.scale < this.#most - 1e-9;
  }

  get canZoomOut() {
    return this.scale > this.#least + 1e-9;
  }

  /** The whole image, as large as the window has room for. */
  fit() {
    this.scale = this.fitScale;
    this.#fitted = true;
    this.#keepInside();
  }

  /** Another scale; the point of the image that is at (x, y) of the window stays there. Gives whether it changed. */
  zoomTo(scale, x = this.#window.width / 2, y = this.#window.height / 2) {
    const [imageX, imageY] = this.toImage(x, y);
    const wanted = Math.min(this.#most, Math.max(this.#least, scale));
    if (wanted === this.scale) return false;
    this.scale = wanted;
    this.left = x - imageX * wanted;
    this.top = y - imageY * wanted;
    this.#fitted = wanted === this.fitScale;
    this.#keepInside();
    return true;
  }

  /** Larger by half a step, or smaller where steps are below 0. */
  zoomBy(steps, x, y) {
    return this.zoomTo(this.scale * STEP ** steps, x, y);
  }

  /** Move the image in its window, as far as its edges. */
  pan(across, down) {
    this.left += across;
    this.top += down;
    this.#keepInside();
  }

  /** Move the image so that a box x y width height of it is seen, where it is not; its middle then is the window's. */
  reveal([x, y, width, height]) {
    const [x0, y0] = this.toImage(0, 0);
    const [x1, y1] = this.toImage(this.#window.width, this.#window.height);
    if (x >= x0 && y >= y0 && x + width <= x1 && y + height <= y1) return;
    const [middleX, middleY] = this.toImage(this.#window.width / 2, this.#window.height / 2);
    this.pan((middleX - x - width / 2) * this.scale, (middleY - y - height / 2) * this.scale);
  }

  /** The point of the image at a point of the window. */
  toImage(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  /** The part of the image that is seen, as whole pixels [x, y, width, height]. */
  get seen() {
    const [x0, y0] = this.toImage(0, 0).map((value) => Math.max(0, Math.floor(value)));
    const [x1, y1] = this.toImage(this.#window.width, this.#window.height).map(Math.ceil);
    const { width, height } = this.#image;
    return [x0, y0, Math.max(1, Math.min(x1, width) - x0), Math.max(1, Math.min(y1, height) - y0)];
  }

  get #least() {
    return Math.min(1, this.fitScale);
  }

  get #most() {
    return Math.max(MOST_SCALE, this.fitScale);
  }

  #keepInside() {
    const { width, height } = this.#window;
    this.left = keep(this.left, width, this.#image.width * this.scale);
    this.top = keep(this.top, height, this.#image.height * this.scale);
  }
}

/** The place of a length in a room: in its middle, or where it is longer, over all of it. */
function keep(place, room, length) {
  return length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, place));
}
