/* Making elements. Every text reaches the page as text, never as markup. */
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/* A value of a record as a reader sees it. */
function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e4 ? String(value) : value.toLocaleString("en");
  if (Math.abs(value) < 1e-3) return value.toExponential(1);
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

const TIMES = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const timeScale = (ns) => TIMES.find(([scale]) => ns >= scale) || TIMES[TIMES.length - 1];
function duration(ns) {
  const [scale, unit] = timeScale(ns);
  return `${(ns / scale).toLocaleString("en", { maximumSignificantDigits: 3 })} ${unit}`;
}

/* A table, scrolled on its own, so that the page is not. */
function scrolled(title, table) {
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table);
}
