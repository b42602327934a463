// What hands do on the stage: wheel, pinch, drag, double click and keys move a view; a short press is handed on.

const MOVED = 4; // pixels of the page after which a press is a drag
const KEY_PIXELS = 80;
const WHEEL = 0.0016; // of the scale's logarithm for a pixel of the wheel
const PINCH = 0.01; // the same of a pinch on a touch pad, which browsers tell as a wheel with Ctrl
const LINE_PIXELS = [1, 16, 400]; // of a wheel that counts pixels, lines or pages
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Let hands on an element move a view: `moved` is called after each change, `pressed` with (x, y) of a short press. */
export function listenToHands(element, view, moved, pressed) {
  const at = (event) => {
    const { left, top } = element.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  listenToPointers(element, view, moved, pressed, at);
  element.addEventListener("dblclick", (event) => view.zoomBy(2, ...at(event)) && moved());
  element.addEventListener("wheel", (event) => {
    const length = event.deltaY * LINE_PIXELS[event.deltaMode];
    const changed = view.zoomTo(view.scale * Math.exp(-length * (event.ctrlKey ? PINCH : WHEEL)), ...at(event));
    if (changed || event.ctrlKey) event.preventDefault(); // at the end the page scrolls, where it can
    if (changed) moved();
  }, { passive: false });
  element.addEventListener("keydown", (event) => {
    if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!pressKey(event.key, view)) return;
    event.preventDefault();
    moved();
  });
}

/** Whether a key means something to a view, and has done it: + and - and 0 and 1 zoom, arrows move. */
function pressKey(key, view) {
  if (key === "+" || key === "=") view.zoomBy(1);
  else if (key === "-" || key === "_") view.zoomBy(-1);
  else if (key === "0") view.fit();
  else if (key === "1") view.zoomTo(1);
  else if (ARROWS[key] && view.canPan) view.pan(...ARROWS[key].map((way) => way * KEY_PIXELS));
  else return false;
  return true;
}

function listenToPointers(element, view, moved, pressed, at) {
  const pointers = new Map(); // where each finger, or the mouse with its button down, is
  let dragged = false;

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (pointers.size === 0) dragged = false;
    pointers.set(event.pointerId, { begin: at(event), now: at(event) });
    if (pointers.size > 1) dragged = true;
  });
  element.addEventListener("pointermove", (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) return;
    const before = [...pointers.values()].map(({ now }) => now);
    pointer.now = at(event);
    if (Math.hypot(pointer.now[0] - pointer.begin[0], pointer.now[1] - pointer.begin[1]) > MOVED) {
      dragged = true;
      element.setPointerCapture(event.pointerId);
    }
    if (dragged) follow(view, before, [...pointers.values()].map(({ now }) => now), moved);
  });
  const leave = (event) => {
    const known = pointers.delete(event.pointerId);
    if (known && !dragged && event.type === "pointerup") pressed(...at(event));
  };
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(name, leave);
}

/** Move a view as one finger or two moved it. */
function follow(view, before, now, moved) {
  if (now.length === 1) {
    if (!view.canPan) return;
    view.pan(now[0][0] - before[0][0], now[0][1] - before[0][1]);
  } else {
    const [from, to] = [before, now].map(([a, b]) => ({
      middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2],
      apart: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])),
    }));
    view.zoomTo((view.scale * to.apart) / from.apart, ...from.middle);
    view.pan(to.middle[0] - from.middle[0], to.middle[1] - from.middle[1]);
  }
  moved();
}
