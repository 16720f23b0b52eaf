/* The filter of a list: items with every word are shown. */
const items = [...document.querySelectorAll(".filtered")];
const texts = items.map((item) => item.textContent.toLowerCase());
const filter = document.getElementById("filter");
const count = document.getElementById("filter-count");

function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  items.forEach((item, place) => {
    item.hidden = !words.every((word) => texts[place].includes(word));
    shown += item.hidden ? 0 : 1;
  });
  const of = `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
  count.textContent = `${of} ${count.dataset.noun}`;
}
if (!filter) return;
filter.addEventListener("input", show);
document.getElementById("filter-label").hidden = false;
show();
