/* Each backend's colour, symbol and name; and whether the page is dark. */
const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
const onPaper = window.matchMedia("print");

function isDark() {
  if (onPaper.matches) return false;
  return view.theme === "auto" ? darkScheme.matches : view.theme === "dark";
}
const colour = (index) => (isDark() ? backends[index].dark : backends[index].light);
const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Gives a node the backend's colour, which the style sheet uses as --mark, in either theme. */
function marked(node, index) {
  node.style.setProperty("--mark", `light-dark(${backends[index].light}, ${backends[index].dark})`);
  return node;
}
function glyph(index) {
  return make("span", { class: "glyph", "aria-hidden": "true" }, backends[index].glyph);
}
function named(index) {
  const title = backends[index].name.slice(0, 300);
  return make("span", { class: "word name", title }, backends[index].short);
}
