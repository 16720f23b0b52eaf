/* The sections that draw: each shows the figure that agrees with the view, once it is near. */
class PanelView {
  constructor(panel) {
    this.panel = panel;
    this.section = byId(panel.id);
    this.part = (name) => this.section.querySelector(`.${name}`);
    this.figures = new Map(panel.figures.map((figure) => [JSON.stringify(figure.key), figure]));
    this.near = false;
    this.stale = true;
    this.part("numbers").addEventListener("toggle", () => this.tabulate());
    follow(["case"], () => this.choose());
    follow(["hidden", "theme"], () => this.outdate());
  }

  choose() {
    const { by } = this.panel;
    const values = chosen();
    this.figure = this.figures.get(JSON.stringify(by.map((name) => values[name])));
    const inOrder = [...axes.map((axis) => axis.name), "seq_len", "batch"].filter((name) => by.includes(name));
    const where = inOrder.map((name) => `${data.labels[name]} ${shown(values[name])}`).join(", ");
    this.part("choice").textContent = where;
    this.part("chosen-answer").textContent = this.figure ? this.figure.answer : "nothing was measured here that this figure could show.";
    this.part("few").textContent = this.figure ? this.figure.points : "";
    this.part("drawn").hidden = !this.figure;
    if (this.figure) this.prepare();
    this.outdate();
  }

  /* The places of the plots, and who is drawn in them. */
  prepare() {
    const { plots } = this.figure;
    const box = this.part("plots");
    while (box.children.length > plots.length) {
      if (window.Plotly) window.Plotly.purge(box.lastChild.querySelector(".plot"));
      box.lastChild.remove();
    }
    while (box.children.length < plots.length) {
      box.append(make("figure", {}, make("h3"), make("div", { class: "plot", role: "img" })));
    }
    plots.forEach((plot, i) => {
      box.children[i].firstChild.textContent = plot.title;
      box.children[i].lastChild.setAttribute("aria-label", `${plot.title}. ${this.figure.answer}`);
    });
    const traces = plots.flatMap((plot) => plot.data);
    drawLegend(this.part("legend"), traces);
    this.tabulate();
  }

  outdate() {
    this.stale = true;
    for (const box of this.part("legend").querySelectorAll("input")) {
      box.checked = !view.hidden.has(Number(box.value));
    }
    if (this.near || onPaper.matches) this.draw();
  }

  draw() {
    if (!this.stale || !this.figure || !window.Plotly) return;
    this.stale = false;
    this.section.querySelectorAll(".plot").forEach((node, i) => {
      const plot = this.figure.plots[i];
      drawPlot(node, plot, `${plot.title}. ${this.figure.answer}`);
    });
  }

  tabulate() {
    const details = this.part("numbers");
    if (details.open && this.figure) {
      details.lastElementChild.replaceChildren(...this.figure.plots.map(asTable));
    }
  }
}

/* A box for each backend drawn, and the names of bars that belong to no backend. */
function drawLegend(legend, traces) {
  const indices = [...new Set(traces.map((trace) => trace.meta))].filter((meta) => meta !== null);
  const others = [...new Set(traces.filter((trace) => trace.meta === null && trace.mode !== "lines").map((trace) => trace.name))];
  const wanted = JSON.stringify([indices, others]);
  if (legend.dataset.shows === wanted) return;
  legend.dataset.shows = wanted;
  const boxes = indices.sort((a, b) => a - b).map((index) => {
    const box = make("input", { type: "checkbox", value: index });
    box.checked = !view.hidden.has(index);
    box.addEventListener("change", () => {
      if (box.checked) view.hidden.delete(index);
      else view.hidden.add(index);
      changed("hidden");
    });
    return marked(make("label", {}, box, glyph(index), named(index)), index);
  });
  const strangers = others.map((name) => make("span", { class: "nobody" }, make("i", { "aria-hidden": "true" }), String(name)));
  legend.replaceChildren(...boxes, ...strangers);
}

function startPanels() {
  const views = data.panels.map((panel) => new PanelView(panel));
  const bySection = new Map(views.map((one) => [one.section, one]));
  const observer = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      const one = bySection.get(entry.target);
      one.near = entry.isIntersecting;
      if (one.near) one.draw();
    }
  }, { rootMargin: "400px" });
  for (const one of views) observer.observe(one.section);
  plotly.then(() => {
    for (const one of views) if (one.near) one.draw();
  });
}
