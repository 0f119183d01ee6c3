// The dialog that asks for the API key.

import { byId } from "./dom.js";

/**
 * Ask for a key.
 * @param {boolean} wasRefused Whether a key was given before and not taken.
 * @returns {Promise<string|null>} Null when the user gives none.
 */
export function askForKey(wasRefused) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  byId("key-trouble").hidden = !wasRefused;
  field.value = "";
  dialog.returnValue = "";
  byId("no-key").onclick = () => dialog.close("none");
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    const close = () => resolve(dialog.returnValue === "use" ? field.value.trim() : null);
    dialog.addEventListener("close", close, { once: true });
  });
}
