// The button that prints a page; without this file it stays hidden, and the browser's own menu prints as well.
for (const button of document.querySelectorAll("button[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
