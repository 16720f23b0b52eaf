/* What the reader has chosen, kept in the address's fragment, so that a link restores it. */
const data = JSON.parse(new TextDecoder().decode(await inflate(byId("data").textContent)));
const { backends, axes, slices, table } = data;

/* `slice` holds the switches; `t` and `b` are the square of the map; `hidden` the places of the
   backends not drawn; `samples` is null, "" for every backend's, or one backend's name. */
const view = {
  slice: slices[0], t: null, b: null, hidden: new Set(),
  theme: "auto", filter: "", sort: "", samples: null,
};

/* Who redraws when a part of the view changes: "case", "hidden", "theme", "rows" or "samples". */
const followers = [];
function follow(parts, draw) {
  followers.push({ parts, draw });
}
function changed(...parts) {
  remember();
  for (const one of followers) if (one.parts.some((part) => parts.includes(part))) one.draw();
}

/* The value of each column of the Summary that the switches and the map choose. */
function chosen() {
  const values = { seq_len: view.t, batch: view.b };
  view.slice.key.forEach((value, axis) => (values[axes[axis].name] = axes[axis].values[value]));
  return values;
}

/* Take a slice, and the square of its map nearest to the one that was chosen. */
function takeSlice(slice) {
  view.slice = slice;
  const { t, b, cells } = slice.map;
  if (!t.includes(view.t)) view.t = t[t.length - 1];
  const row = cells[t.indexOf(view.t)];
  if (!row[b.indexOf(view.b)]) view.b = b[row.findLastIndex((cell) => cell)];
}

/* The slice with this value on this axis that changes the fewest other switches. */
function nearest(axis, value) {
  const same = (slice) => slice.key.filter((v, i) => v === view.slice.key[i]).length;
  const fitting = slices.filter((slice) => slice.key[axis] === value);
  return fitting.reduce((best, slice) => (same(slice) > same(best) ? slice : best), fitting[0]);
}

/* Choose the case of a row of the table. */
function takeCase(row) {
  const value = (name) => table.rows[row][columnOf(name)];
  const key = axes.map((axis) => axis.values.indexOf(value(axis.name)));
  view.t = value("seq_len");
  view.b = value("batch");
  takeSlice(slices.find((slice) => slice.key.every((v, i) => v === key[i])));
}
function columnOf(name) {
  return table.columns.findIndex((column) => column.name === name);
}

/* Numbers of the table's rows that show the chosen case. */
function rowsOfCase() {
  const wanted = Object.entries(chosen()).map(([name, value]) => [columnOf(name), value]);
  const fits = (row) => wanted.every(([column, value]) => row[column] === value);
  return [...table.rows.keys()].filter((number) => fits(table.rows[number]));
}

function remember() {
  const kept = new URLSearchParams();
  if (view.slice) {
    view.slice.key.forEach((value, axis) => kept.set(axes[axis].name, shown(axes[axis].values[value])));
    kept.set("T", view.t);
    kept.set("B", view.b);
  }
  for (const index of view.hidden) kept.append("hide", backends[index].name);
  if (view.theme !== "auto") kept.set("theme", view.theme);
  if (view.filter) kept.set("filter", view.filter);
  if (view.sort) kept.set("sort", view.sort);
  if (view.samples !== null) kept.set("samples", view.samples);
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  axes.forEach((axis, i) => {
    const value = axis.values.map(shown).indexOf(kept.get(axis.name));
    if (value >= 0) view.slice = nearest(i, value);
  });
  view.t = Number(kept.get("T"));
  view.b = Number(kept.get("B"));
  if (view.slice) takeSlice(view.slice);
  const hidden = kept.getAll("hide");
  view.hidden = new Set([...backends.keys()].filter((i) => hidden.includes(backends[i].name)));
  view.theme = ["light", "dark"].includes(kept.get("theme")) ? kept.get("theme") : "auto";
  view.filter = kept.get("filter") || "";
  view.sort = columnOf((kept.get("sort") || "").replace(/^-/, "")) < 0 ? "" : kept.get("sort");
  view.samples = view.slice ? kept.get("samples") : null;
}
