// The strip of frames that the model sees: a list with one stop for the Tab key, arrows move within it.

import { el, seconds } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class Strip {
  #list;
  #times = [];
  #onChoose;

  /**
   * @param {Element} list
   * @param {(index: number) => void} onChoose Called with the place of a frame that the user chose.
   */
  constructor(list, onChoose) {
    this.#list = list;
    this.#onChoose = onChoose;
    list.addEventListener("keydown", (event) => this.#onKey(event));
    list.addEventListener("click", (event) => this.#onClick(event));
  }

  /** @param {{image: string, time_s: number|null}[]} frames */
  show(frames) {
    this.#times = frames.map((frame) => frame.time_s);
    this.#list.replaceChildren(...frames.map((frame, index) => item(frame, index)));
    this.#list.dataset.count = frames.length;
    if (frames.length) this.#mark(0);
  }

  /** Mark the last frame that was taken before a time of the clip. */
  markTime(time) {
    const index = this.#times.findLastIndex((known) => known !== null && known <= time + 0.01);
    this.#mark(Math.max(0, index));
  }

  get #marked() {
    return Number(this.#list.querySelector("[aria-selected=true]")?.dataset.index ?? 0);
  }

  #mark(index) {
    for (const [at, option] of [...this.#list.children].entries()) {
      option.setAttribute("aria-selected", String(at === index));
      option.tabIndex = at === index ? 0 : -1;
    }
  }

  #choose(index) {
    this.#mark(index);
    const option = this.#list.children[index];
    option.focus({ preventScroll: true });
    option.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.#onChoose(index);
  }

  #onKey(event) {
    const last = this.#list.children.length - 1;
    if (event.key in STEPS) {
      event.preventDefault();
      this.#choose(Math.min(last, Math.max(0, this.#marked + STEPS[event.key])));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#choose(this.#marked);
    }
  }

  #onClick(event) {
    const option = event.target.closest("[role=option]");
    if (option) this.#choose(Number(option.dataset.index));
  }
}

function item({ image, time_s: time }, index) {
  const spoken = time === null ? `Picture ${index + 1}` : `Frame ${index + 1}, at ${clock(time)}`;
  return el(
    "li",
    { role: "option", "aria-label": spoken, "data-index": index },
    el("img", { src: image, alt: "", draggable: "false" }),
    time === null ? "" : el("span", { class: "time" }, clock(time)),
  );
}

/** A time as people write it: 3.5 s, 1:03.5, 1:02:03. */
export function clock(time) {
  if (time < 60) return seconds(time);
  const whole = Math.floor(time);
  const pad = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = pad(whole % 60);
  return hours ? `${hours}:${pad(minutes)}:${tail}` : `${minutes}:${tail}.${Math.floor((time % 1) * 10)}`;
}
