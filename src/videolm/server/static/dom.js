// Elements from values: text becomes text nodes, so nothing that comes from outside is ever read as HTML.

/**
 * An element with properties and children.
 * @param {string} tag
 * @param {Object} [properties] `class`, `on` (listeners by name), `aria-…`, `data-…` and other attributes; true for a bare one.
 * @param {...(Node|string)} children
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Say something to those who listen instead of looking. */
export function announce(words) {
  byId("status").textContent = words;
}

/** Show an error's words, or hide them. */
export function showTrouble(place, words, ...more) {
  place.replaceChildren(...(words ? [words, ...more] : []));
  place.hidden = !words;
}

/** Copy text, also where the page is not served over HTTPS and the clipboard's interface is missing. */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = el("textarea", { readonly: true, "aria-hidden": "true", class: "unseen" });
  area.value = text;
  const back = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  back?.focus();
  if (!done) throw new Error("The browser does not let this page copy.");
}

export const seconds = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} s`;

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
