// One question and its answer on the page.

import { announce, copyText, el, plural, seconds, showTrouble } from "./dom.js";
import { showMarkdown } from "./markdown.js";

const COPIED_MS = 1500;
const NEAR_END_PX = 60;

export class TurnView {
  #answer = el("div", { class: "answer", dir: "auto", "aria-busy": "true" });
  #note = el("p", { class: "note", hidden: true });
  #trouble = el("div", { class: "trouble", role: "alert", hidden: true });
  #measures = el("ul", { class: "facts", "aria-label": "Measured", hidden: true });
  #actions = el("div", { class: "turn-actions", role: "group", "aria-label": "What to do with this answer", hidden: true });
  #waiting = el("p", { class: "waiting" }, "Thinking", el("span", { class: "dots", "aria-hidden": "true" }, "…"));
  #text = "";
  #isDrawPlanned = false;

  /** @param {string} question */
  constructor(question, index) {
    const asked = el("p", { class: "question", dir: "auto" }, el("span", { class: "unseen" }, "You asked: "), question);
    this.element = el("article", { class: "turn", "aria-label": `Question ${index}` }, asked);
    this.element.append(this.#waiting, this.#answer, this.#note, this.#trouble, this.#measures, this.#actions);
  }

  /** Begin an answer, the first one or another one. */
  begin() {
    this.#text = "";
    showMarkdown(this.#answer, "");
    this.#answer.setAttribute("aria-busy", "true");
    showTrouble(this.#trouble, "");
    for (const part of [this.#note, this.#measures, this.#actions]) part.hidden = true;
    this.#waiting.hidden = false;
  }

  /** Add to the answer; it is drawn at most once for each picture that the screen shows. */
  add(piece) {
    this.#text += piece;
    this.#waiting.hidden = true;
    if (this.#isDrawPlanned) return;
    this.#isDrawPlanned = true;
    requestAnimationFrame(() => this.#draw());
  }

  /**
   * The answer is all there, or as much of it as there will be.
   * @param {{note?: string, trouble?: string, measures: {text: string, isGood?: boolean}[]}} end
   */
  finish({ note = "", trouble = "", measures }) {
    this.#draw();
    this.#waiting.hidden = true;
    this.#answer.setAttribute("aria-busy", "false");
    this.#note.textContent = note;
    this.#note.hidden = !note;
    followEnd(() => showTrouble(this.#trouble, trouble));
    this.#measures.replaceChildren(...measures.map(({ text, isGood }) => el("li", isGood ? { class: "good" } : {}, text)));
    this.#measures.hidden = measures.length === 0;
    this.element.dataset.state = trouble ? "failed" : note ? "noted" : "done";
  }

  /** @param {[string, (event: Event) => void][]} actions */
  showActions(actions) {
    followEnd(() => {
      this.#actions.replaceChildren(...actions.map(([label, act]) => button(label, act)));
      this.#actions.hidden = false;
    });
  }

  #draw() {
    this.#isDrawPlanned = false;
    followEnd(() => showMarkdown(this.#answer, this.#text));
  }
}

/** Change the page, and stay at its end where that is what the user looks at. */
function followEnd(change) {
  const page = document.documentElement;
  const isAtEnd = page.scrollHeight - innerHeight - scrollY < NEAR_END_PX;
  change();
  if (isAtEnd) scrollTo({ top: page.scrollHeight, behavior: "instant" });
}

function button(label, act) {
  return el("button", { type: "button", class: "quiet small", on: { click: act } }, label);
}

/** Copy, and say on the button that it was done. */
export async function copyFrom(event, text) {
  const pressed = event.currentTarget;
  const label = pressed.textContent;
  let told = "Copied";
  try {
    await copyText(text);
  } catch {
    told = "Could not copy";
  }
  pressed.textContent = told;
  announce(told);
  setTimeout(() => (pressed.textContent = label), COPIED_MS);
}

/**
 * What an answer cost, in words.
 * @param {{firstToken_s: number|null, total_s: number, usage: Object|null}} cost
 */
export function measuresOf({ firstToken_s: first, total_s: total, usage }) {
  const words = [];
  if (first !== null) words.push({ text: `First token after ${seconds(first)}` });
  if (usage) {
    words.push({ text: `${plural(usage.completion_tokens, "token")} in ${seconds(total)}` });
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    const prompt = plural(usage.prompt_tokens, "prompt token");
    if (cached) words.push({ text: `${cached.toLocaleString("en")} of ${prompt} from the cache`, isGood: true });
    else words.push({ text: `${prompt}, none from the cache` });
  }
  return words;
}
