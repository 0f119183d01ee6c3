// One line of Markdown, as nodes: emphasis, code, links. Time and depth are bounded whatever the text holds.

import { el } from "./dom.js";

const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };
const MAX_DEPTH = 16;
const SAFE_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
// Each part is bounded, so that a thousand opening brackets cost a thousand short looks and not a thousand long ones.
const LINK = /!?\[([^[\]\n]{1,500})\]\(((?:[^()\s]|\([^()\s]{0,200}\)){1,1000})\)/y;
const BARE_LINK = /https?:\/\/[^\s<>"'`*\]]{1,1000}/y;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;

/**
 * Append a text's nodes to an element.
 * @param {Element} parent
 * @param {string} text
 */
export function appendInline(parent, text) {
  parent.append(...new Inline(text).nodes());
}

class Inline {
  #text;
  #at = 0;
  #plain = "";
  #frames = [{ marker: "", children: [] }];
  #missingRuns = new Set();

  constructor(text) {
    this.#text = text;
  }

  nodes() {
    while (this.#at < this.#text.length) this.#step();
    this.#flush();
    this.#unwind(0);
    return this.#frames[0].children;
  }

  #step() {
    const char = this.#text[this.#at];
    const isDone =
      (char === "\\" && this.#escape()) ||
      (char === "`" && this.#code()) ||
      ((char === "[" || char === "!") && this.#link()) ||
      ((char === "*" || char === "_" || char === "~") && this.#emphasis(char)) ||
      (char === "h" && this.#bareLink()) ||
      (char === "\n" && this.#lineBreak());
    if (!isDone) {
      this.#plain += char;
      this.#at += 1;
    }
  }

  #escape() {
    const next = this.#text[this.#at + 1];
    if (next === undefined || !PUNCTUATION.test(next)) return false;
    this.#plain += next;
    this.#at += 2;
    return true;
  }

  #code() {
    const run = this.#run("`");
    const from = this.#at + run;
    const end = this.#missingRuns.has(run) ? -1 : this.#closingRun(from, run);
    if (end < 0) {
      this.#missingRuns.add(run);
      this.#plain += "`".repeat(run);
      this.#at = from;
      return true;
    }
    const code = this.#text.slice(from, end);
    const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
    this.#push(el("code", {}, isPadded ? code.slice(1, -1) : code));
    this.#at = end + run;
    return true;
  }

  /** Where the next run of exactly so many backticks begins, or -1. */
  #closingRun(from, run) {
    const runs = /`+/g;
    runs.lastIndex = from;
    for (let found = runs.exec(this.#text); found; found = runs.exec(this.#text)) {
      if (found[0].length === run) return found.index;
    }
    return -1;
  }

  #link() {
    LINK.lastIndex = this.#at;
    const found = LINK.exec(this.#text);
    const href = found && safeUrl(found[2]);
    if (!href) return false;
    // A picture from elsewhere would tell its host who reads the answer: it is shown as a link.
    this.#push(anchor(href, found[1]));
    this.#at = LINK.lastIndex;
    return true;
  }

  #bareLink() {
    if (this.#at > 0 && WORD.test(this.#text[this.#at - 1])) return false;
    BARE_LINK.lastIndex = this.#at;
    const found = BARE_LINK.exec(this.#text);
    const written = found?.[0].replace(/[.,;:!?)]{1,50}$/, "");
    const href = written && safeUrl(written);
    if (!href) return false;
    this.#push(anchor(href, written));
    this.#at += written.length;
    return true;
  }

  #lineBreak() {
    this.#push(el("br"));
    this.#at += 1;
    return true;
  }

  #emphasis(char) {
    const run = this.#run(char);
    const before = this.#text[this.#at - 1] ?? " ";
    const after = this.#text[this.#at + run] ?? " ";
    this.#at += run;
    const isInWord = WORD.test(before) && WORD.test(after);
    const isKnown = char === "~" ? run === 2 : run <= 3 && !(char === "_" && isInWord);
    let left = isKnown ? run : 0;
    if (isKnown && !/\s/.test(before)) left = this.#closeMost(char, left);
    if (isKnown && left && !/\s/.test(after)) left = this.#openMost(char, left);
    this.#plain += char.repeat(isKnown ? left : run);
    return true;
  }

  #closeMost(char, count) {
    let left = count;
    for (;;) {
      const depth = this.#frames.findLastIndex(({ marker }) => marker[0] === char && marker.length <= left);
      if (depth < 1) return left;
      left -= this.#frames[depth].marker.length;
      this.#close(depth);
    }
  }

  #openMost(char, count) {
    let left = count;
    while (left && this.#frames.length <= MAX_DEPTH) {
      const marker = char.repeat(Math.min(left, 2));
      this.#flush();
      this.#frames.push({ marker, children: [] });
      left -= marker.length;
    }
    return left;
  }

  #close(depth) {
    this.#flush();
    this.#unwind(depth);
    const { marker, children } = this.#frames.pop();
    this.#push(children.length ? el(TAGS[marker], {}, ...children) : document.createTextNode(marker + marker));
  }

  /** What was opened above a depth and never closed becomes plain text there. */
  #unwind(depth) {
    const { children } = this.#frames[depth];
    for (const frame of this.#frames.splice(depth + 1)) {
      children.push(document.createTextNode(frame.marker));
      for (const child of frame.children) children.push(child);
    }
  }

  #run(char) {
    let end = this.#at;
    while (this.#text[end] === char) end += 1;
    return end - this.#at;
  }

  #push(node) {
    this.#flush();
    this.#frames.at(-1).children.push(node);
  }

  #flush() {
    if (!this.#plain) return;
    this.#frames.at(-1).children.push(document.createTextNode(this.#plain));
    this.#plain = "";
  }
}

/** A URL that may be followed, or null: no scripts, no data, nothing relative to this server. */
export function safeUrl(written) {
  const url = URL.parse?.(written) ?? parsedUrl(written);
  return url && SAFE_PROTOCOLS.has(url.protocol) ? url.href : null;
}

function parsedUrl(written) {
  try {
    return new URL(written);
  } catch {
    return null;
  }
}

function anchor(href, words) {
  return el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, words);
}
