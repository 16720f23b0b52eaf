"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const texts = cards.map((card) => card.textContent.toLowerCase());
  const filter = document.getElementById("filter");
  const count = document.getElementById("run-count");

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    cards.forEach((card, place) => {
      card.hidden = !words.every((word) => texts[place].includes(word));
      shown += card.hidden ? 0 : 1;
    });
    count.textContent = `${shown.toLocaleString("en")} of ${cards.length.toLocaleString("en")} runs`;
  }
  filter.addEventListener("input", show);
  document.getElementById("filter-label").hidden = false;
  show();
})();
