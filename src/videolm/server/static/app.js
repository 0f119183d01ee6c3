// The page: puts its parts together and hands them what the user does.

import { Api } from "./api.js";
import { Conversation } from "./chat.js";
import { announce, byId, el, showTrouble } from "./dom.js";
import { askForKey } from "./keys.js";
import { Medium } from "./media.js";
import { Settings } from "./settings.js";

const HINTS = {
  video: ["Describe the video.", "What moves, and which way?", "What happens first, and what then?"],
  image: ["Describe the picture.", "What colours are there?", "How many things are there?"],
};
const hasMouse = matchMedia("(pointer: fine)");

const api = new Api(askForKey);
const settings = new Settings((before, after) => {
  if (before.frames !== after.frames) medium.refresh();
});
const conversation = new Conversation(api, settings, showBusy);
const medium = new Medium(api, settings, { onReady: beginTalk, onGone: endTalk });

function beginTalk(seen) {
  conversation.setMedium(seen);
  byId("talk").hidden = false;
  document.body.dataset.mode = "talk";
  showHints(HINTS[seen.kind] ?? HINTS.image);
  // On a touch screen the keyboard would cover the strip that has just come.
  if (hasMouse.matches && !document.querySelector("dialog[open]")) byId("question").focus();
}

function endTalk() {
  conversation.clear();
  byId("talk").hidden = true;
  delete document.body.dataset.mode;
}

function showHints(questions) {
  byId("opening").hidden = !conversation.isEmpty;
  byId("hints").replaceChildren(
    ...questions.map((words) => el("button", { type: "button", class: "hint", on: { click: () => ask(words) } }, words)),
  );
}

function ask(question) {
  if (!question.trim() || conversation.isBusy) return;
  byId("opening").hidden = true;
  byId("question").value = "";
  fit();
  conversation.ask(question.trim());
  scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

function showBusy(isBusy) {
  const focused = document.activeElement;
  const isElsewhere = focused === byId("question") || byId("medium").contains(focused);
  byId("send").hidden = isBusy;
  byId("stop").hidden = !isBusy;
  // The button that was pressed goes away: the focus moves to what can be done next.
  if (isBusy && !isElsewhere) byId("stop").focus();
  if (!isBusy && focused === byId("stop")) (hasMouse.matches ? byId("question") : byId("send")).focus();
}

/** Make the box as high as the question in it. */
function fit() {
  const box = byId("question");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 200)}px`;
}

function open(source) {
  showTrouble(byId("welcome-trouble"), "");
  return medium.open(source);
}

function openLink(words) {
  const link = words.trim();
  if (/^(https?:\/\/|data:(video|image)\/)/i.test(link)) return open(link);
  const expected = "It should begin with http:// or https://.";
  return showTrouble(byId("welcome-trouble"), link ? `This is not a link to a video or a picture. ${expected}` : expected);
}

async function openSample() {
  try {
    const response = await fetch("static/sample.mp4");
    if (!response.ok) throw new Error();
    await open(new File([await response.blob()], "sample.mp4", { type: "video/mp4" }));
  } catch {
    showTrouble(byId("welcome-trouble"), "The sample cannot be fetched. Check that the server is running, then try again.");
  }
}

function listenToWelcome() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) open(file);
  });
  byId("link-form").addEventListener("submit", (event) => {
    event.preventDefault();
    openLink(byId("link").value);
  });
  byId("sample").addEventListener("click", openSample);
}

function listenToQuestions() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(byId("question").value);
  });
  byId("question").addEventListener("input", fit);
  byId("question").addEventListener("keydown", (event) => {
    // While a word is being composed, Enter belongs to the input method.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      ask(byId("question").value);
    }
  });
  byId("stop").addEventListener("click", () => conversation.stop());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) conversation.stop();
  });
}

function listenToDrops() {
  let depth = 0;
  const show = (change) => {
    depth = change === 0 ? 0 : depth + change;
    byId("veil").hidden = depth <= 0;
  };
  const holds = (event) => ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));
  addEventListener("dragenter", (event) => holds(event) && show(1));
  addEventListener("dragleave", (event) => holds(event) && show(-1));
  addEventListener("dragover", (event) => holds(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    show(0);
    take(event.dataTransfer, "text/uri-list");
  });
  addEventListener("paste", (event) => {
    const isTyping = event.target.closest?.("input, textarea");
    if (event.clipboardData.files.length || !isTyping) take(event.clipboardData, "text/plain");
  });
}

function take(data, type) {
  const [file] = data.files;
  const link = data.getData(type).split(/\r?\n/).find((line) => line && !line.startsWith("#"));
  if (file) open(file);
  else if (link && byId("medium").hidden) openLink(link);
  else if (link && /^https?:\/\//i.test(link)) open(link);
}

async function greet() {
  try {
    [conversation.model] = await api.models();
    byId("model").textContent = conversation.model;
    byId("model").title = conversation.model;
    byId("model").hidden = false;
  } catch (error) {
    showTrouble(byId("welcome-trouble"), error.message, el("button", { type: "button", on: { click: greet } }, "Try again"));
    return;
  }
  showTrouble(byId("welcome-trouble"), "");
  announce("");
}

listenToWelcome();
listenToQuestions();
listenToDrops();
greet();
