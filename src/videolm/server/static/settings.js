// The settings of a question, and the dialog that changes them.

import { byId } from "./dom.js";
import { load, save } from "./storage.js";

const DEFAULTS = { frames: null, temperature: 0, maxTokens: 256 };
const FIELDS = { frames: "frames", temperature: "temperature", maxTokens: "max-tokens" };

export class Settings {
  #values = kept();
  #onChange;

  /** @param {(before: Object, after: Object) => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
    byId("open-settings").addEventListener("click", () => this.#open());
    byId("reset-settings").addEventListener("click", () => this.#fill(DEFAULTS));
    byId("settings-form").addEventListener("submit", () => this.#take());
  }

  /** `frames` (null: the model's own rule), `temperature` and `maxTokens`. */
  get values() {
    return this.#values;
  }

  #open() {
    this.#fill(this.#values);
    byId("settings").showModal();
  }

  #fill(values) {
    for (const [name, id] of Object.entries(FIELDS)) byId(id).value = values[name] ?? "";
  }

  #take() {
    const before = this.#values;
    const number = (id) => (byId(id).value === "" ? null : byId(id).valueAsNumber);
    this.#values = Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, number(id)]));
    save("localStorage", "settings", this.#values);
    this.#onChange(before, this.#values);
  }
}

function kept() {
  const stored = Object.entries(load("localStorage", "settings") ?? {});
  return { ...DEFAULTS, ...Object.fromEntries(stored.filter(([name, value]) => name in DEFAULTS && Number.isFinite(value))) };
}
