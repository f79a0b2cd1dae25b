// Counts down what the server wrote as "1 min 40 s", until its next answer. Without it the text just stands still.
"use strict";

(() => {
  const seenAt = new WeakMap();

  function inWords(seconds) {
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor((seconds % 3600) / 60);
    if (hours) return `${hours} h ${minutes} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
  }

  function tick() {
    for (const element of document.querySelectorAll("[data-seconds-left]")) {
      // Measured from when the text appeared: the clocks of server and browser may differ.
      if (!seenAt.has(element)) seenAt.set(element, performance.now());
      const passed = Math.floor((performance.now() - seenAt.get(element)) / 1000);
      const left = Math.max(0, Number(element.dataset.secondsLeft) - passed);
      if (left < 24 * 3600) element.textContent = inWords(left);
    }
  }

  tick();
  setInterval(tick, 1000);
})();
