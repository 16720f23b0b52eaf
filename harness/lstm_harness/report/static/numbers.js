/* A plot's numbers as tables, for who cannot see it or wants to copy them. */
const MOST_COLUMNS = 24;

/* A line a backend where they share their places on the axis, else a line a point. */
function asTable(plot) {
  const lying = plot.data.some((trace) => trace.orientation === "h");
  const [along, across] = lying ? ["y", "x"] : ["x", "y"];
  const sides = { along: plot.layout[`${along}axis`] || {}, across: plot.layout[`${across}axis`] || {} };
  const lines = plot.data.map((trace) => ({
    name: trace.meta === null ? String(trace.name) : named(trace.meta),
    places: trace[along],
    values: trace[across],
  }));
  const places = [...new Set(lines.flatMap((line) => line.places))];
  const points = lines.reduce((sum, line) => sum + line.places.length, 0);
  const shared = places.length <= MOST_COLUMNS && 2 * points >= places.length * lines.length;
  const [head, body] = shared ? byBackend(lines, places, sides) : byPoint(lines, sides);
  const told = [plot.title, axisTitle(sides.across)].filter(Boolean).join(", ");
  const parts = [make("caption", {}, told), make("thead", {}, head), make("tbody", {}, ...body)];
  return scrolled(plot.title, make("table", { class: "plain" }, ...parts));
}

function byBackend(lines, places, sides) {
  const corner = ["Backend", axisTitle(sides.along)].filter(Boolean).join(" \\ ");
  const titles = places.map((place) => tickOf(sides.along, place));
  const body = lines.map(({ name, places: own, values }) => rowOfNumbers(name, places.map((place) => values[own.indexOf(place)])));
  return [headOf(corner, titles), body];
}
function byPoint(lines, sides) {
  const body = lines.flatMap(({ name, places, values }) => places.map((place, i) => rowOfNumbers(name.cloneNode?.(true) ?? name, [tickOf(sides.along, place), values[i]])));
  return [headOf("Backend", [axisTitle(sides.along), axisTitle(sides.across)]), body];
}

const axisTitle = (axis) => axis.title?.text || "";
function tickOf(axis, place) {
  const tick = axis.tickvals?.indexOf(place) ?? -1;
  return tick >= 0 && axis.ticktext ? axis.ticktext[tick] : shown(place);
}
function headOf(first, titles) {
  const others = titles.map((title) => make("th", { scope: "col", class: "n" }, title));
  return make("tr", {}, make("th", { scope: "col" }, first), ...others);
}
function rowOfNumbers(name, values) {
  const cells = values.map((value) => make("td", { class: "n" }, shown(value)));
  return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
}
