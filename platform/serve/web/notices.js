// What the page says besides its results: that it works, that something failed, that a key is needed.
import { get } from "./elements.js";

const QUIET_MILLISECONDS = 500; // before a screen reader is told, so that a moving slider does not talk all the time
let telling = 0;

/** Say that something is being done, over the image; null when it is over. */
export function busy(text) {
  get("busy").hidden = text === null;
  get("busy-text").textContent = text ?? "";
  get("stage").setAttribute("aria-busy", String(text !== null));
  if (text) tell(text);
}

/** Let a screen reader say something once nothing newer has come for a while. */
export function tell(text) {
  clearTimeout(telling);
  telling = setTimeout(() => (get("live").textContent = text), QUIET_MILLISECONDS);
}

/** Show an error, with a way to try again where there is one; null takes it away. */
export function fail(message, again) {
  get("alert").hidden = message === null;
  get("error").textContent = message ?? "";
  get("again").hidden = !again;
  get("again").onclick = again || null;
}

/** The promise of the key of a host that the reader types, or of null; refused: the last one was wrong. */
export function askKey(refused, host) {
  const dialog = get("key-dialog");
  get("key-host").textContent = host;
  get("key-refused").hidden = !refused;
  get("key").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    get("key-form").onsubmit = () => resolve(get("key").value);
    get("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      resolve(null); // unless it was given
      get("key").value = "";
    };
  });
}
