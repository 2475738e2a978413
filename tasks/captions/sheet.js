"use strict";

const byId = (id) => document.getElementById(id);
const cards = [...document.querySelectorAll("#list article")].map((element) => ({
  element,
  marks: element.dataset.marks.split(" "),
  text: element.querySelector(".words").textContent.toLowerCase(),
}));

// Shows the cards that hold every word of the search and have the mark.
function refresh() {
  const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
  const mark = byId("mark").value;
  let shown = 0;
  for (const card of cards) {
    const fits = (mark === "" || card.marks.includes(mark)) && words.every((word) => card.text.includes(word));
    card.element.hidden = !fits;
    shown += fits;
  }
  byId("count").textContent = `${shown.toLocaleString("en")} card${shown === 1 ? "" : "s"}`;
}

byId("tools").hidden = cards.length === 0;
byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("query").addEventListener("input", refresh);
byId("mark").addEventListener("change", refresh);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("query")) {
    event.preventDefault();
    byId("query").focus();
  }
});
// A browser that goes back fills in what was searched for.
refresh();
document.documentElement.dataset.readyMs = Math.round(performance.now());
