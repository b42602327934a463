// The buttons on the stage: larger, smaller, whole image, full size, and the stage over the whole window.
import { get } from "./elements.js";

/** Let the buttons move the view of a stage. */
export function listenToZoomBar(stage) {
  get("zoom-in").addEventListener("click", () => stage.zoom((view) => view.zoomBy(1)));
  get("zoom-out").addEventListener("click", () => stage.zoom((view) => view.zoomBy(-1)));
  get("zoom-fit").addEventListener("click", () => stage.zoom((view) => view.fit()));
  get("zoom-full").addEventListener("click", () => stage.zoom((view) => view.zoomTo(1)));
  get("zoom-wide").addEventListener("click", () => fillWindow(!isWide()));
}

export const isWide = () => document.body.classList.contains("wide");

/** Let the stage have the whole window, or give the rest its room back; what is hidden behind it takes no focus. */
export function fillWindow(wide) {
  document.body.classList.toggle("wide", wide);
  for (const id of ["strip", "samples", "side"]) get(id).inert = wide;
  get("zoom-wide").setAttribute("aria-pressed", String(wide));
}

/** Tell how a view is. */
export function tellZoom(view) {
  const scale = 100 * view.scale;
  get("zoom-value").textContent = `${scale < 10 ? scale.toFixed(1) : Math.round(scale)} %`;
  get("zoom-in").ariaDisabled = String(!view.canZoomIn);
  get("zoom-out").ariaDisabled = String(!view.canZoomOut);
  get("frame").classList.toggle("movable", view.canPan);
}
