/* The switches of the page, and the first drawing. */
function showSwitches() {
  view.slice?.key.forEach((value, axis) => {
    document.querySelector(`input[name="axis-${axis}"][value="${value}"]`).checked = true;
  });
}
function showTheme() {
  if (view.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = view.theme;
  document.querySelector(`input[name="theme"][value="${view.theme}"]`).checked = true;
}

function restore() {
  // A link to a section changes the fragment and nothing of the view.
  if (document.getElementById(location.hash.slice(1))) return remember();
  recall();
  byId("filter").value = view.filter;
  for (const one of followers) one.draw();
}

function start() {
  follow(["theme"], showTheme);
  startRows();
  if (slices.length) {
    follow(["case"], showSwitches);
    follow(["case"], drawMap);
    follow(["case"], drawDetail);
    byId("map-table").addEventListener("keydown", walk);
    byId("switches")?.addEventListener("change", (event) => {
      takeSlice(nearest(Number(event.target.name.slice(5)), Number(event.target.value)));
      changed("case");
    });
    startPanels();
    if (byId("samples-show")) startInspector();
  }
  byId("theme").addEventListener("change", (event) => {
    view.theme = event.target.value;
    changed("theme");
  });
  for (const media of [darkScheme, onPaper]) {
    media.addEventListener("change", () => changed("theme"));
  }
  window.addEventListener("hashchange", restore);
  recall();
  byId("filter").value = view.filter;
  for (const one of followers) one.draw();
}
start();
