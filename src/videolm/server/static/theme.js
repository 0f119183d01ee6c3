// Runs before the page is painted, so that a chosen theme does not flash the other one first.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("videolm.theme");
    } catch {
      return null; // Storage may be forbidden; the system's colours are then the only choice that lasts.
    }
  }

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  }

  function show() {
    document.getElementById("theme")?.setAttribute("aria-pressed", String(isDark()));
  }

  const theme = chosen();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("videolm.theme", root.dataset.theme);
      } catch {
        // See above.
      }
      show();
    });
  });
})();
