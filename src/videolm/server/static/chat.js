// The conversation about one medium: what was asked, what was answered, and what is sent next.

import { isAbort } from "./api.js";
import { announce, byId } from "./dom.js";
import { asCurl, asPython } from "./snippets.js";
import { TurnView, copyFrom, measuresOf } from "./turn.js";

const TOO_LONG = "The answer ended at the most tokens that the settings allow.";

export class Conversation {
  #api;
  #settings;
  #onBusy;
  #medium = null;
  #turns = [];
  #running = null;
  model = null;

  /** @param {(isBusy: boolean) => void} onBusy Called when an answer begins and when it ends. */
  constructor(api, settings, onBusy) {
    this.#api = api;
    this.#settings = settings;
    this.#onBusy = onBusy;
  }

  get isBusy() {
    return this.#running !== null;
  }

  get isEmpty() {
    return this.#turns.length === 0;
  }

  /** Begin anew, or end. */
  clear() {
    this.stop();
    this.#turns = [];
    this.#medium = null;
    byId("turns").replaceChildren();
  }

  /** Talk about this medium; what was said about it before stays. */
  setMedium(medium) {
    this.#medium = medium;
  }

  ask(question) {
    const view = new TurnView(question, this.#turns.length + 1);
    const turn = { question, answer: "", view };
    const last = this.#turns.at(-1);
    this.#turns.push(turn);
    byId("turns").append(view.element);
    last?.view.showActions(this.#actionsOf(last));
    return this.#answer(turn);
  }

  stop() {
    this.#running?.abort();
  }

  async #answer(turn) {
    if (this.isBusy) return;
    const running = (this.#running = new AbortController());
    const body = this.#bodyOf(turn);
    const cost = { start_ms: performance.now(), firstToken_s: null, usage: null };
    Object.assign(turn, { answer: "", body });
    turn.view.begin();
    this.#onBusy(true);
    const end = await this.#stream(turn, body, cost, running.signal);
    cost.total_s = (performance.now() - cost.start_ms) / 1000;
    turn.view.finish({ ...end, measures: measuresOf(cost) });
    turn.view.showActions(this.#actionsOf(turn));
    this.#running = null;
    announce(end.trouble ? "" : (end.note ?? "The answer is complete."));
    this.#onBusy(false);
  }

  /** Take an answer in; how it ended, in words where it did not simply end. */
  async #stream(turn, body, cost, signal) {
    const request = { ...body, stream: true, stream_options: { include_usage: true } };
    let reason = null;
    try {
      for await (const chunk of this.#api.chat(request, signal)) {
        const [choice] = chunk.choices ?? [];
        const piece = choice?.delta?.content;
        if (piece) {
          cost.firstToken_s ??= (performance.now() - cost.start_ms) / 1000;
          turn.answer += piece;
          turn.view.add(piece);
        }
        reason = choice?.finish_reason ?? reason;
        cost.usage = chunk.usage ?? cost.usage;
      }
    } catch (error) {
      if (isAbort(error)) return { note: turn.answer ? "Stopped." : "Stopped before the first word." };
      return { trouble: error.message };
    }
    return reason === "length" ? { note: TOO_LONG } : {};
  }

  #bodyOf(turn) {
    const { frames, temperature, maxTokens } = this.#settings.values;
    const before = this.#turns.slice(0, this.#turns.indexOf(turn));
    // A question that has no answer is no part of what was said: models expect the two to alternate.
    const said = before.filter((earlier) => earlier.answer.trim());
    const messages = [...said, turn].flatMap(({ question, answer }, index) => {
      const content = index ? question : [this.#medium.part, { type: "text", text: question }];
      return [{ role: "user", content }, { role: "assistant", content: answer }];
    });
    const body = { model: this.model, messages: messages.slice(0, -1), max_tokens: maxTokens, temperature };
    return this.#medium.kind === "video" && frames !== null ? { ...body, num_frames: frames } : body;
  }

  #actionsOf(turn) {
    const server = { base: new URL(".", document.baseURI).href.replace(/\/$/, ""), needsKey: this.#api.hasKey };
    const copying = [
      ["Copy as curl", (event) => copyFrom(event, asCurl(turn.body, server))],
      ["Copy as Python", (event) => copyFrom(event, asPython(turn.body, server))],
    ];
    if (turn.answer) copying.unshift(["Copy", (event) => copyFrom(event, turn.answer)]);
    // What was said after a turn rests on its answer: only the last one may get another.
    return turn === this.#turns.at(-1) ? [["Retry", () => this.#answer(turn)], ...copying] : copying;
  }
}
