// Markdown as elements, block by block; while an answer streams, only the blocks that changed are built anew.

import { el } from "./dom.js";
import { appendInline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const LANGUAGE = /[\w+#.-]{1,40}/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(\S.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])([ \t]{1,4})(?=\S)/;
const TABLE_LINE = /^[\s|:-]+$/;
const MAX_DEPTH = 6;
const MAX_COLUMNS = 50;

/**
 * Show a Markdown text in an element, keeping what is there already and has not changed.
 * @param {Element} target Holds the blocks of an earlier call with the beginning of the same text, or nothing.
 * @param {string} text
 */
export function showMarkdown(target, text) {
  const blocks = parse(text.split("\n"), 0);
  let same = 0;
  while (same < blocks.length && target.children[same]?.markdownSource === sourceOf(blocks[same])) same += 1;
  while (target.children.length > same) target.lastElementChild.remove();
  target.append(...blocks.slice(same).map(built));
}

const sourceOf = (block) => `${block.kind}\n${block.lines.join("\n")}`;

function built(block) {
  const element = BUILDERS[block.kind](block);
  element.markdownSource = sourceOf(block);
  return element;
}

/** Lines as blocks, each `{kind, lines, depth, …}`; deeper than MAX_DEPTH everything is a paragraph. */
function parse(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const kind = kindAt(lines, at, depth);
    const end = ENDS[kind](lines, at, depth);
    blocks.push({ kind, lines: lines.slice(at, end), depth });
    at = end;
  }
  return blocks;
}

function kindAt(lines, at, depth) {
  const line = lines[at];
  if (fence(line)) return "code";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (depth < MAX_DEPTH && QUOTE.test(line)) return "quote";
  if (depth < MAX_DEPTH && ITEM.test(line)) return "list";
  if (line.includes("|") && isTableLine(lines[at + 1])) return "table";
  return "paragraph";
}

/** The mark and the language that a fence opens with, or null. */
function fence(line) {
  const [, mark, info] = FENCE.exec(line) ?? [];
  // `code` in a line of its own may begin with three backticks too; it also ends in that line.
  return mark && !info.includes("`") ? { mark, language: LANGUAGE.exec(info)?.[0] ?? "" } : null;
}

const isTableLine = (line) => line?.includes("|") && line.includes("-") && TABLE_LINE.test(line);

const ENDS = {
  code(lines, at) {
    const { mark } = fence(lines[at]);
    const end = endWhere(lines, at, (line) => closes(line, mark));
    return Math.min(end + 1, lines.length);
  },
  heading: (_, at) => at + 1,
  rule: (_, at) => at + 1,
  quote: (lines, at) => endWhere(lines, at, (line) => !QUOTE.test(line)),
  table: (lines, at) => endWhere(lines, at + 1, (line) => !line.includes("|")),
  paragraph(lines, at, depth) {
    const endsIt = (_, index) => !lines[index].trim() || kindAt(lines, index, depth) !== "paragraph";
    return endWhere(lines, at, endsIt);
  },
  list(lines, at) {
    const isOrdered = isOrderedItem(lines[at]);
    const [, indent] = ITEM.exec(lines[at]);
    return endWhere(lines, at, (line, index) => {
      if (!line.trim()) return !continues(lines, index, indent.length);
      const item = ITEM.exec(line);
      if (item && item[1].length <= indent.length + 1) return isOrderedItem(line) !== isOrdered || RULE.test(line);
      return !/^\s/.test(line);
    });
  },
};

/** Whether a line ends the code that a mark began. */
function closes(line, mark) {
  const trimmed = line.trim();
  return trimmed.startsWith(mark) && trimmed === mark[0].repeat(trimmed.length);
}

/** Whether the list goes on after an empty line: with another item, or with something indented. */
function continues(lines, index, indent) {
  const next = lines[index + 1];
  return next !== undefined && (ITEM.test(next) || next.search(/\S/) > indent + 1);
}

const isOrderedItem = (line) => /\d/.test(ITEM.exec(line)[2]);

function endWhere(lines, at, endsIt) {
  let end = at + 1;
  while (end < lines.length && !endsIt(lines[end], end)) end += 1;
  return end;
}

const BUILDERS = {
  code({ lines }) {
    const { mark, language } = fence(lines[0]);
    const last = lines.length > 1 && closes(lines.at(-1), mark) ? -1 : undefined;
    const code = el("code", language ? { "data-language": language } : {}, lines.slice(1, last).join("\n"));
    return el("pre", { tabindex: "0", role: "region", "aria-label": language ? `Code, ${language}` : "Code" }, code);
  },
  heading({ lines }) {
    const [, marks, words] = HEADING.exec(lines[0]);
    // The page's own headings end at the third level.
    return withText(el(`h${Math.min(6, marks.length + 3)}`), withoutClosingMarks(words));
  },
  rule: () => el("hr"),
  quote: ({ lines, depth }) => {
    const inner = lines.map((line) => line.replace(QUOTE, ""));
    return el("blockquote", {}, ...parse(inner, depth + 1).map(built));
  },
  paragraph: ({ lines }) => withText(el("p"), lines.map((line) => line.trim()).join("\n")),
  list: buildList,
  table: buildTable,
};

function withoutClosingMarks(words) {
  const trimmed = words.trimEnd();
  let end = trimmed.length;
  while (end > 0 && trimmed[end - 1] === "#") end -= 1;
  return end < trimmed.length && /\s/.test(trimmed[end - 1] ?? " ") ? trimmed.slice(0, end).trimEnd() : trimmed;
}

function withText(element, text) {
  appendInline(element, text);
  return element;
}

function buildList({ lines, depth }) {
  const first = ITEM.exec(lines[0]);
  const items = [];
  let width = 0;
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= first[1].length + 1) {
      width = item[0].length;
      items.push([line.slice(width)]);
    } else {
      const indent = line.search(/\S/);
      items.at(-1).push(line.slice(Math.min(width, Math.max(indent, 0))));
    }
  }
  const isOrdered = isOrderedItem(lines[0]);
  const start = isOrdered ? parseInt(first[2], 10) : 1;
  return el(isOrdered ? "ol" : "ul", start === 1 ? {} : { start }, ...items.map((item) => buildItem(item, depth)));
}

function buildItem(lines, depth) {
  const [first, ...rest] = parse(lines, depth + 1).map(built);
  const item = el("li");
  // A paragraph alone would stand a line apart from its bullet.
  if (first?.tagName === "P") item.append(...first.childNodes);
  else if (first) item.append(first);
  item.append(...rest);
  return item;
}

function buildTable({ lines }) {
  const head = cells(lines[0]);
  const row = (tag, line) => {
    const words = cells(line);
    return el("tr", {}, ...head.map((_, index) => withText(el(tag), words[index] ?? "")));
  };
  const body = lines.slice(2).map((line) => row("td", line));
  const table = el("table", {}, el("thead", {}, row("th", lines[0])), el("tbody", {}, ...body));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, table);
}

function cells(line) {
  const trimmed = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return trimmed.split("|", MAX_COLUMNS).map((cell) => cell.trim());
}
