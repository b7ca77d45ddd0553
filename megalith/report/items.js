"use strict";
for (const filter of document.querySelectorAll(".filter")) {
  const rows = [...filter.parentElement.querySelectorAll("tbody tr")];
  const [text, task, outcome] = filter.querySelectorAll("input, select");
  const told = filter.querySelector("output");
  const held = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const sought = text.value.toLowerCase();
    let shown = 0;
    rows.forEach((row, place) => {
      const fits = held[place].includes(sought) &&
        (task.value === "" || row.dataset.task === task.value) &&
        (outcome.value === "" || row.dataset.outcome === outcome.value);
      row.hidden = !fits;
      shown += fits;
    });
    told.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  };
  for (const part of [text, task, outcome]) part.addEventListener("input", show);
  filter.hidden = false;
  show();
}
