// A box that ticks all boxes of a form; without this file it stays hidden and the boxes are ticked one by one.
for (const all of document.querySelectorAll("input[data-ticks]")) {
  const boxes = document.querySelectorAll(`input[type=checkbox][form="${all.dataset.ticks}"]`);
  all.hidden = boxes.length === 0;
  all.addEventListener("change", () => boxes.forEach((box) => { box.checked = all.checked; }));
  boxes.forEach((box) => box.addEventListener("change", () => {
    all.checked = [...boxes].every((one) => one.checked);
  }));
}
