// The large view above the strip: the clip itself where this browser has it and can play it, or else a frame of it.

import { el } from "./dom.js";

export class Stage {
  #place;
  #url = null;
  #video = null;
  #frames = [];
  #onTime;

  /** @param {(time: number) => void} onTime Called with the clip's time, in seconds, while it plays. */
  constructor(place, onTime) {
    this.#place = place;
    this.#onTime = onTime;
  }

  /** Show a file at once, before anybody has decoded it. */
  showFile(file) {
    this.clear();
    this.#url = URL.createObjectURL(file);
    if (file.type.startsWith("image/")) this.#place.append(el("img", { src: this.#url, alt: file.name }));
    else if (file.type.startsWith("video/")) this.#showVideo(this.#url, file.name);
  }

  /** Have the frames that the model sees at hand, and show the first of them where nothing is shown yet. */
  setFrames(frames, name) {
    this.#frames = frames.map((frame) => ({ ...frame, name }));
    if (!this.#place.firstElementChild && frames.length) this.#showFrame(0);
  }

  /** Show the clip where a frame was taken. */
  choose(index) {
    const frame = this.#frames[index];
    if (!frame) return;
    if (this.#video) this.#video.currentTime = frame.time_s ?? 0;
    else if (frame.time_s !== null) this.#showFrame(index);
  }

  clear() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
    this.#video = null;
    this.#frames = [];
    this.#place.replaceChildren();
  }

  #showVideo(url, name) {
    const video = el("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": name });
    video.muted = true;
    video.addEventListener("timeupdate", () => this.#onTime(video.currentTime));
    video.addEventListener("error", () => {
      // The browser cannot play it; the model's frames can still be shown.
      if (this.#video !== video) return;
      this.#video = null;
      this.#place.replaceChildren();
      if (this.#frames.length) this.#showFrame(0);
    });
    video.src = url;
    this.#video = video;
    this.#place.append(video);
  }

  #showFrame(index) {
    const { image, name } = this.#frames[index];
    this.#place.replaceChildren(el("img", { src: image, alt: `${name}, frame ${index + 1}` }));
  }
}
