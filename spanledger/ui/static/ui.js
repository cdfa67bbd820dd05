// What pages gain where scripts run; everything works without. Nothing here draws data.
"use strict";
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

function tell(target, event) {
  tip.replaceChildren();
  target.dataset.tip.split("\n").forEach((line, number) => {
    const row = tip.appendChild(document.createElement("div"));
    row.className = number ? "row" : "row head";
    line.split("\t").forEach((text) => (row.appendChild(document.createElement("span")).textContent = text));
  });
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 8))}px`;
}
document.addEventListener("pointermove", (event) => {
  const target = event.target.closest?.("[data-tip]");
  if (target) tell(target, event);
  else tip.hidden = true;
});
document.addEventListener("scroll", () => (tip.hidden = true), true);

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const text = copy.closest(".pop").querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(copy.closest(".pop").querySelector("code"));
      copy.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (copy.textContent = "Copy SQL"), 2000);
  }
  if (event.target.closest("[data-theme-switch]")) {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `spanledger_theme=${root.dataset.theme}; path=/ui; max-age=31536000; samesite=strict`;
  }
  document.querySelectorAll("details.filter[open], details.source[open]").forEach((open) => {
    if (!open.contains(event.target)) open.open = false;
  });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    document.querySelectorAll("details.filter[open], details.source[open]").forEach((open) => {
      open.open = false;
      open.querySelector("summary").focus();
    });
  } else if (event.key === "/" && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    document.querySelector(".filters select")?.focus();
  }
});
// A list of one choice is sent as soon as it changes; until is of the old period then.
document.addEventListener("change", (event) => {
  const select = event.target.closest("form select");
  if (!select) return;
  if (select.name === "since") select.form.querySelector("[name=until]")?.remove();
  select.form.requestSubmit();
});
document.documentElement.classList.add("scripts");
