// What a browser must not do by itself: show a page as it was before something was put into the cart, and send a form
// twice because its button was clicked twice.
"use strict";

(() => {
  const SAME_CLICK = 1000; // milliseconds

  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // Back has brought it out of the browser's memory
  });

  const sentAt = new WeakMap();
  document.addEventListener("submit", (event) => {
    const button = event.submitter ?? event.target;
    const now = performance.now();
    if (now - (sentAt.get(button) ?? -SAME_CLICK) < SAME_CLICK) event.preventDefault();
    else sentAt.set(button, now);
  });
})();
