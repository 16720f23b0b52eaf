/* The map of the fastest backends, and the ranking of the chosen square beside it. */
let mapped = null;
function drawMap() {
  // A new table would lose the focus.
  if (mapped === view.slice) return;
  mapped = view.slice;
  const { t, b, cells } = view.slice.map;
  const head = make("tr", {}, make("th", { class: "corner" }, "T \\ B"));
  head.append(...b.map((size) => make("th", { scope: "col" }, String(size))));
  const body = make("tbody");
  t.forEach((steps, i) => {
    const row = make("tr", {}, make("th", { scope: "row" }, String(steps)));
    b.forEach((batch, j) => row.append(square(cells[i][j], steps, batch)));
    body.append(row);
  });
  byId("map-table").replaceChildren(make("thead", {}, head), body);
  byId("map-table").style.setProperty("--columns", b.length);
  byId("map-answer").textContent = view.slice.map.answer;
  byId("map-points").textContent = view.slice.map.points;
}

function square(cell, t, b) {
  if (!cell) return make("td", { class: "blank", title: "not measured" }, "·");
  const button = make("button", { type: "button", class: cell.state, "data-t": t, "data-b": b });
  button.setAttribute("aria-label", `T ${t}, B ${b}: ${cell.says}`);
  button.title = cell.says;
  if (cell.state === "none") button.append(make("b", {}, "none"));
  else if (cell.state === "tie") button.append(...tied(cell.tied), make("i", {}, "tie"));
  else {
    button.append(make("b", {}, glyph(cell.backend), " ", named(cell.backend)));
    button.append(make("i", {}, cell.margin || "only"));
    marked(button, cell.backend).style.setProperty("--strength", cell.strength ?? 0);
  }
  button.addEventListener("click", () => {
    view.t = t;
    view.b = b;
    changed("case");
  });
  return make("td", {}, button);
}

/* The names of a tie, as many as a square has room for. */
function tied(indices) {
  const shown = indices.slice(0, indices.length > 2 ? 1 : 2);
  const names = shown.map((index) => marked(make("b", {}, glyph(index), " ", named(index)), index));
  return indices.length > 2 ? [...names, make("b", {}, `and ${indices.length - 1} more`)] : names;
}

/* One square is in the tab order; arrows go from square to square. */
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
function walk(event) {
  const step = ARROWS[event.key];
  const here = event.target.closest("td");
  if (!step || !here) return;
  event.preventDefault();
  let row = here.parentNode.rowIndex;
  let column = here.cellIndex;
  let next = null;
  const { rows } = byId("map-table");
  do {
    row += step[0];
    column += step[1];
    next = rows[row]?.cells[column];
  } while (next && !next.querySelector("button") && next.tagName === "TD");
  const button = next?.querySelector("button");
  if (!button) return;
  event.target.tabIndex = -1;
  button.tabIndex = 0;
  button.focus();
}

function drawDetail() {
  const { t, b, cells } = view.slice.map;
  const cell = cells[t.indexOf(view.t)][b.indexOf(view.b)];
  const list = make("ol");
  for (const one of cell.ranks) {
    const bar = make("span", { class: "bar" });
    bar.style.setProperty("--share", `${100 * one.share}%`);
    const more = [one.interval, one.ratio && `${one.ratio} the fastest's time`, one.tie && "ties with the fastest"];
    const said = make("span", { class: "more" }, more.filter(Boolean).join(" · "), " ");
    said.append(samplesButton(backends[one.backend].name, backends[one.backend].short));
    list.append(place(one.backend, one.time, bar, said));
  }
  for (const one of cell.failed) {
    list.append(place(one.backend, one.status, make("span", { class: "more" }, one.reason)));
  }
  const title = make("h3", {}, `T = ${view.t}, B = ${view.b}: time of one execution`);
  const all = cell.ranks.length > 1 ? [samplesButton("", "every backend here", "samples of all backends")] : [];
  byId("detail").replaceChildren(title, list, ...all);
  const focused = byId("map-table").contains(document.activeElement);
  for (const button of byId("map-table").querySelectorAll("button")) {
    const here = Number(button.dataset.t) === view.t && Number(button.dataset.b) === view.b;
    button.setAttribute("aria-pressed", String(here));
    button.tabIndex = here ? 0 : -1;
    if (here && focused) button.focus();
  }
}

function place(backend, time, ...more) {
  const item = make("li", {}, make("span", {}, glyph(backend), " ", named(backend)));
  item.append(make("span", { class: "time" }, time), ...more);
  return marked(item, backend);
}
