"use strict";
const cells = [...document.querySelectorAll("details.cell")];

const details = document.getElementById("details").textContent.split("<!--next-->");

function fill(cell) {
  const body = cell.querySelector(".body");
  if (!body.firstChild) body.innerHTML = details[cells.indexOf(cell)];
}

for (const cell of cells) {
  cell.addEventListener("toggle", () => cell.open && fill(cell));
}

// A link to a cell opens it.
function openLinked() {
  const cell = document.getElementById(decodeURIComponent(location.hash.slice(1))) || document.getElementById(location.hash.slice(1));
  if (cell && cell.matches("details.cell")) {
    cell.hidden = false;
    cell.closest(".group").hidden = false;
    fill(cell);
    cell.open = true;
    cell.querySelector("summary").focus({ preventScroll: true });
    cell.scrollIntoView();
  }
}
addEventListener("hashchange", openLinked);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#cell-']");
  if (link && link.hash === location.hash) openLinked();
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button, button.previousElementSibling);
});

// Where the page may not write to the clipboard, the text is selected instead.
async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
  }
}

const form = document.getElementById("filter");
function filter() {
  const asked = new FormData(form);
  const text = asked.get("text").trim().toLowerCase();
  let shown = 0;
  for (const cell of cells) {
    const fits =
      (!asked.get("status") || cell.dataset.status === asked.get("status")) &&
      (!asked.get("bundle") || cell.dataset.bundles.split("\n").includes(asked.get("bundle"))) &&
      (!asked.get("cause") || cell.dataset.cause === asked.get("cause")) &&
      (!text || cell.querySelector("summary").textContent.toLowerCase().includes(text));
    cell.hidden = !fits;
    shown += fits;
  }
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector("details.cell:not([hidden])");
  }
  form.querySelector("output").value = shown === cells.length ? "" : `${shown} of ${cells.length} cells`;
}
if (form) {
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
}

// On paper, what broke is open.
let printed = [];
addEventListener("beforeprint", () => {
  printed = cells.filter((cell) => !cell.open && cell.dataset.cause);
  for (const cell of printed) {
    fill(cell);
    cell.open = true;
  }
});
addEventListener("afterprint", () => printed.forEach((cell) => (cell.open = false)));

openLinked();
