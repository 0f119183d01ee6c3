// One medium on its way from the user's hands to the strip of what the model sees of it.

import { isAbort } from "./api.js";
import { announce, byId, el, plural, seconds, showTrouble } from "./dom.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";

const PICTURE_NAME = /\.(png|jpe?g|webp|bmp|tiff?|avif|heic)$/i;

export class Medium {
  #api;
  #settings;
  #onReady;
  #onGone;
  #stage;
  #strip;
  #source = null;
  #fileId = null;
  #part = null;
  #running = null;

  /**
   * @param {(medium: {part: Object, kind: string}) => void} onReady Called when the model's view of it is there.
   * @param {() => void} onGone Called when it is removed or another one takes its place.
   */
  constructor(api, settings, { onReady, onGone }) {
    this.#api = api;
    this.#settings = settings;
    this.#onReady = onReady;
    this.#onGone = onGone;
    this.#stage = new Stage(byId("stage"), (time) => this.#strip.markTime(time));
    this.#strip = new Strip(byId("strip"), (index) => this.#stage.choose(index));
    byId("remove").addEventListener("click", () => this.remove());
  }

  /**
   * Take a file or a link and let the server read it.
   * @param {File|string} source
   */
  open(source) {
    this.#forget();
    this.#source = source;
    const name = nameOf(source);
    byId("medium-title").textContent = name;
    byId("medium").setAttribute("aria-busy", "true");
    byId("welcome").hidden = true;
    byId("medium").hidden = false;
    byId("seen").hidden = true;
    if (source instanceof File) this.#stage.showFile(source);
    else this.#part = partOf(source);
    return this.#run(() => this.#read());
  }

  /** Look again, because the number of frames has changed. */
  refresh() {
    return this.#part ? this.#run(() => this.#inspect()) : undefined;
  }

  /** Give it up, here and on the server. */
  remove() {
    this.#forget();
    byId("medium").hidden = true;
    byId("welcome").hidden = false;
    byId("choose").focus();
    announce("Removed.");
  }

  #forget() {
    this.#running?.abort();
    // What stays behind ages out on the server: not worth a word to somebody who is already elsewhere.
    if (this.#fileId) this.#api.removeFile(this.#fileId).catch(() => {});
    this.#fileId = this.#part = this.#source = this.#running = null;
    this.#stage.clear();
    this.#strip.show([]);
    showTrouble(byId("medium-trouble"), "");
    byId("progress").hidden = true;
    this.#onGone();
  }

  async #run(work) {
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    showTrouble(byId("medium-trouble"), "");
    try {
      await work();
    } catch (error) {
      if (this.#running !== running || isAbort(error)) return;
      const again = el("button", { type: "button", on: { click: () => this.#run(() => this.#read()) } }, "Try again");
      showTrouble(byId("medium-trouble"), error.message, again);
    } finally {
      if (this.#running === running) this.#showProgress(null);
    }
  }

  async #read() {
    const { signal } = this.#running;
    if (!this.#part) {
      this.#showProgress("Sending", 0);
      const file = await this.#api.upload(this.#source, (share) => this.#showProgress("Sending", share), signal);
      if (signal.aborted) {
        this.#api.removeFile(file.id).catch(() => {});
        return;
      }
      this.#fileId = file.id;
      this.#part = { type: "file", file: { file_id: file.id } };
    }
    await this.#inspect();
  }

  async #inspect() {
    const { signal } = this.#running;
    this.#showProgress("Looking at the frames");
    const seen = await this.#api.inspect([this.#part], this.#settings.values.frames, signal);
    if (signal.aborted) return;
    this.#show(seen);
    const { kind, visual_tokens: tokens, num_frames: frames } = seen.media[0];
    const what = kind === "video" ? `${plural(frames, "frame")}, ` : "";
    announce(`Ready: ${what}${plural(tokens, "visual token")}. Ask your question.`);
    this.#onReady({ part: this.#part, kind });
  }

  #show(seen) {
    const [medium] = seen.media;
    const name = nameOf(this.#source);
    byId("seen").hidden = false;
    byId("facts").replaceChildren(...factsOf(medium).map((fact) => el("li", {}, fact)));
    byId("warnings").replaceChildren(...medium.warnings.map((warning) => el("li", {}, warning)));
    byId("warnings").hidden = medium.warnings.length === 0;
    byId("sheet").href = seen.sheet;
    this.#strip.show(medium.frames);
    this.#stage.setFrames(medium.frames, name);
  }

  #showProgress(words, share) {
    byId("progress").hidden = words === null;
    byId("medium").setAttribute("aria-busy", String(words !== null));
    if (words === null) return;
    const isKnown = share !== undefined && share < 1;
    byId("progress-words").textContent = isKnown ? `${words}: ${Math.round(share * 100)} %` : `${words}…`;
    if (isKnown) byId("progress-bar").value = share;
    else byId("progress-bar").removeAttribute("value");
  }
}

function nameOf(source) {
  if (source instanceof File) return source.name;
  if (source.startsWith("data:")) return "Pasted data";
  const url = URL.canParse(source) ? new URL(source) : null;
  return url?.pathname.split("/").filter(Boolean).at(-1) ?? source;
}

function partOf(link) {
  const path = URL.canParse(link) ? new URL(link).pathname : link;
  const isPicture = link.startsWith("data:image/") || (!link.startsWith("data:") && PICTURE_NAME.test(path));
  return isPicture
    ? { type: "image_url", image_url: { url: link } }
    : { type: "video_url", video_url: { url: link } };
}

function factsOf(medium) {
  const size = `${medium.width} × ${medium.height}`;
  const tokens = plural(medium.visual_tokens, "visual token");
  if (medium.kind !== "video") return [size, medium.num_tiles > 1 ? plural(medium.num_tiles, "tile") : "1 tile", tokens];
  const duration = medium.duration_s ? [seconds(medium.duration_s)] : [];
  const total = medium.num_source_frames ? ` of ${medium.num_source_frames.toLocaleString("en")}` : "";
  return [...duration, size, `${medium.num_frames}${total} frames`, tokens];
}
