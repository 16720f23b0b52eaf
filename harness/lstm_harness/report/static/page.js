"use strict";
/* Shows the slice that the switches choose. Every text reaches the page as text, never as markup. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { backends, axes, slices, distances, table } = data;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);
  const state = { slice: slices[0], t: null, b: null, hidden: new Set() };

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }
  const colour = (index) => (dark.matches ? backends[index].dark : backends[index].light);
  function glyph(index) {
    return make("span", { class: "glyph", "aria-hidden": "true" }, backends[index].glyph);
  }
  function named(index) {
    const name = make("span", { class: "word name", title: backends[index].name.slice(0, 300) });
    name.textContent = backends[index].short;
    return name;
  }
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* The map and the ranking beside it */
  function drawMap() {
    const { t, b, cells } = state.slice.map;
    const head = make("tr", {}, make("th", { class: "corner" }, "T \\ B"));
    head.append(...b.map((size) => make("th", { scope: "col" }, String(size))));
    const body = make("tbody");
    t.forEach((steps, i) => {
      const row = make("tr", {}, make("th", { scope: "row" }, String(steps)));
      b.forEach((batch, j) => row.append(square(cells[i][j], steps, batch)));
      body.append(row);
    });
    byId("map-table").replaceChildren(make("thead", {}, head), body);
    byId("map-answer").textContent = state.slice.map.answer;
  }
  function square(cell, t, b) {
    if (!cell) return make("td", { class: "blank", title: "not asked for" }, "·");
    const button = make("button", { type: "button", class: cell.state, "data-t": t, "data-b": b });
    button.setAttribute("aria-label", `T ${t}, B ${b}: ${cell.says}`);
    button.title = cell.says;
    if (cell.backend === null) button.append(make("b", {}, "none"));
    else {
      button.append(make("b", {}, glyph(cell.backend), " ", named(cell.backend)));
      button.append(make("i", {}, cell.margin || "only"));
      button.style.setProperty("--mark", colour(cell.backend));
      button.style.setProperty("--fill", `${Math.round(10 + 45 * cell.strength)}%`);
      if (cell.state === "tie") {
        const second = glyph(cell.second);
        second.style.setProperty("--mark", colour(cell.second));
        button.lastChild.append(make("span", { class: "also" }, " ≈ ", second));
      }
    }
    button.addEventListener("click", () => choose(t, b));
    return make("td", {}, button);
  }
  function drawDetail() {
    const { t, b, cells } = state.slice.map;
    const cell = (cells[t.indexOf(state.t)] || [])[b.indexOf(state.b)];
    const list = make("ol");
    for (const one of cell ? cell.ranks : []) {
      const item = make("li", {}, make("span", {}, glyph(one.backend), " ", named(one.backend)));
      item.style.setProperty("--mark", colour(one.backend));
      item.append(make("span", { class: "time" }, one.time));
      const bar = make("span", { class: "bar" });
      bar.style.setProperty("--share", `${100 * one.share}%`);
      const more = [one.interval, one.ratio && `${one.ratio} the fastest`, one.tie && "within noise"];
      item.append(bar, make("span", { class: "more" }, more.filter(Boolean).join(" · ")));
      list.append(item);
    }
    for (const one of cell ? cell.failed : []) {
      const item = make("li", {}, make("span", {}, glyph(one.backend), " ", named(one.backend)));
      item.style.setProperty("--mark", colour(one.backend));
      item.append(make("span", { class: "time" }, one.status));
      item.append(make("span", { class: "more" }, one.reason));
      list.append(item);
    }
    const title = make("h3", {}, `T = ${state.t}, B = ${state.b}: time of one execution`);
    byId("detail").replaceChildren(title, list);
    for (const button of byId("map-table").querySelectorAll("button")) {
      const here = Number(button.dataset.t) === state.t && Number(button.dataset.b) === state.b;
      button.setAttribute("aria-pressed", String(here));
    }
  }

  /* Curves */
  function drawCurves() {
    for (const node of document.querySelectorAll(".chosen-t")) node.textContent = state.t;
    for (const node of document.querySelectorAll(".chosen-b")) node.textContent = state.b;
    const over_t = state.slice.over_t.find((one) => one.at === state.b);
    const over_b = state.slice.over_b.find((one) => one.at === state.t);
    byId("over_t-answer").textContent = over_t.answer;
    byId("over_b-answer").textContent = over_b.answer;
    drawCurve("over_t", over_t, over_t.answer);
    drawCurve("over_b", over_b, over_b.answer);
    drawDistance();
  }
  /* How far from the floor; a square of the map may have none */
  function drawDistance() {
    if (!distances.length) return;
    const { map, distance } = state.slice;
    const number = distance[map.t.indexOf(state.t)][map.b.indexOf(state.b)];
    const found = number === null ? null : distances[number];
    byId("distance").hidden = found === null;
    byId("distance-answer").textContent = found ? found.answer : "No floor is known here.";
    if (!found) return;
    drawCurve("step", found.step, `Time of a step. ${found.answer}`);
    drawCurve("share", found.share, `Share of the floor. ${found.answer}`);
  }
  function drawCurve(id, figure, says) {
    const plot = byId(id);
    plot.setAttribute("aria-label", says);
    byId(`${id}-table`).replaceChildren(asTable(figure));
    if (!window.Plotly) return; // it is read last, so that the map need not wait for it
    const traces = figure.data
      .filter((trace) => !state.hidden.has(trace.meta))
      .map((trace) => ({
        ...trace,
        marker: { ...trace.marker, size: 8, color: colourOf(trace) },
        line: { ...trace.line, width: 2, color: colourOf(trace) },
        error_y: { ...trace.error_y, thickness: 1.2, width: 3, color: colourOf(trace) },
      }));
    const axis = { gridcolor: style("--faint"), linecolor: style("--line"), zeroline: false, automargin: true };
    const layout = {
      xaxis: { ...axis, ...figure.layout.xaxis, showgrid: false, ticks: "outside", tickcolor: style("--line") },
      yaxis: { ...axis, ...figure.layout.yaxis, exponentformat: "SI", nticks: 7 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: style("--soft") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 12, t: 8, b: 8 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: style("--raised"), font: { color: style("--ink") }, align: "left" },
      dragmode: false,
    };
    const config = { displayModeBar: false, responsive: true, scrollZoom: false };
    window.Plotly.react(plot, traces, layout, config);
  }
  /* The floor is nobody's. */
  function colourOf(trace) {
    return trace.meta === null ? style("--ink") : colour(trace.meta);
  }
  function asTable(figure) {
    const sizes = figure.layout.xaxis.tickvals;
    const head = make("tr", {}, make("th", { scope: "col" }, "Backend"));
    head.append(...sizes.map((size) => make("th", { scope: "col", class: "n" }, String(size))));
    const body = make("tbody");
    for (const trace of figure.data) {
      const name = trace.meta === null ? trace.name : named(trace.meta);
      const row = make("tr", {}, make("th", { scope: "row" }, name));
      for (const size of sizes) {
        const value = trace.y[trace.x.indexOf(size)];
        row.append(make("td", { class: "n" }, value === undefined ? "–" : shown(value)));
      }
      body.append(row);
    }
    return make("table", { class: "plain" }, make("thead", {}, head), body);
  }
  function drawLegend() {
    const items = backends.map((_, index) => {
      const box = make("input", { type: "checkbox" });
      box.checked = !state.hidden.has(index);
      box.addEventListener("change", () => {
        if (box.checked) state.hidden.delete(index);
        else state.hidden.add(index);
        drawCurves();
        remember();
      });
      const label = make("label", {}, box, glyph(index), named(index));
      label.style.setProperty("--mark", colour(index));
      return label;
    });
    byId("legend").replaceChildren(...items);
  }

  /* Switches, and the fragment that restores them */
  function choose(t, b) {
    state.t = t;
    state.b = b;
    drawDetail();
    drawCurves();
    remember();
  }
  function chooseSlice(slice) {
    state.slice = slice;
    const { t, b, cells } = slice.map;
    if (!t.includes(state.t)) state.t = t[t.length - 1];
    const row = cells[t.indexOf(state.t)];
    if (!row[b.indexOf(state.b)]) state.b = b[row.findLastIndex((cell) => cell)];
    slice.key.forEach((value, axis) => {
      document.querySelector(`input[name="axis-${axis}"][value="${value}"]`).checked = true;
    });
    drawMap();
    drawDetail();
    drawCurves();
  }
  /* The slice with this value on this axis that changes the fewest other switches. */
  function nearest(axis, value) {
    const same = (slice) => slice.key.filter((v, i) => v === state.slice.key[i]).length;
    const fitting = slices.filter((slice) => slice.key[axis] === value);
    return fitting.reduce((best, slice) => (same(slice) > same(best) ? slice : best), fitting[0]);
  }
  function remember() {
    const view = new URLSearchParams();
    state.slice.key.forEach((value, axis) => view.set(axes[axis].name, axes[axis].values[value]));
    view.set("T", state.t);
    view.set("B", state.b);
    for (const index of state.hidden) view.append("hide", backends[index].name);
    history.replaceState(null, "", `#${view}`);
  }
  function recall() {
    const view = new URLSearchParams(location.hash.slice(1));
    axes.forEach((axis, i) => {
      const value = axis.values.indexOf(view.get(axis.name));
      if (value >= 0) state.slice = nearest(i, value);
    });
    state.t = Number(view.get("T"));
    state.b = Number(view.get("B"));
    const hidden = view.getAll("hide");
    state.hidden = new Set([...backends.keys()].filter((i) => hidden.includes(backends[i].name)));
  }

  /* Every row: sort, filter, download */
  const list = { order: table.rows.map((_, i) => i), sort: null, down: false, limit: 30, words: [] };
  const haystack = table.rows.map((row) => row.join(" ").toLowerCase());
  const unit = (column) => (column.unit ? ` (${column.unit})` : "");
  function shown(value) {
    if (value === null) return "–";
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e4 ? String(value) : value.toLocaleString("en");
    if (Math.abs(value) < 1e-3) return value.toExponential(1);
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  }
  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return list.down ? -order : order;
  }
  function drawRows() {
    const found = list.order.filter((i) => list.words.every((word) => haystack[i].includes(word)));
    if (list.sort !== null) found.sort((i, j) => compare(table.rows[i][list.sort], table.rows[j][list.sort]));
    const columns = [...table.columns.keys()].filter((i) => table.columns[i].shown);
    const body = make("tbody");
    for (const i of found.slice(0, list.limit)) {
      const row = make("tr");
      for (const j of columns) {
        const value = table.rows[i][j];
        const text = shown(value);
        const isText = typeof value === "string";
        row.append(make("td", { class: isText ? "text" : "n", title: isText ? value.slice(0, 300) : null }, text.slice(0, 200)));
      }
      body.append(row);
    }
    byId("all-rows").replaceChildren(make("thead", {}, headOfRows(columns)), body);
    byId("row-count").textContent = `${found.length} of ${table.rows.length} rows`;
    byId("more").hidden = found.length <= list.limit;
    byId("more").textContent = `Show ${Math.min(500, found.length - list.limit)} more`;
  }
  function headOfRows(columns) {
    const head = make("tr");
    for (const j of columns) {
      const column = table.columns[j];
      const button = make("button", { type: "button" }, column.title + unit(column));
      button.addEventListener("click", () => {
        list.down = list.sort === j && !list.down;
        list.sort = j;
        drawRows();
        byId("all-rows").querySelectorAll("th button")[columns.indexOf(j)].focus();
      });
      const isText = table.rows.some((row) => typeof row[j] === "string");
      const cell = make("th", { scope: "col", class: isText ? null : "n" }, button);
      if (list.sort === j) {
        cell.setAttribute("aria-sort", list.down ? "descending" : "ascending");
        button.append(list.down ? " ↓" : " ↑");
      }
      head.append(cell);
    }
    return head;
  }
  /* Text that a spreadsheet would run as a formula is led by an apostrophe. */
  function field(value) {
    if (value === null) return "";
    if (typeof value !== "string") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }
  function csv() {
    const lines = [table.columns.map((column) => field(column.name)), ...table.rows.map((row) => row.map(field))];
    return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
  }
  function download() {
    const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    const link = make("a", { href: address, download: "lstm-bench.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function start() {
    byId("filter").addEventListener("input", (event) => {
      list.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      list.limit = 30;
      drawRows();
    });
    byId("more").addEventListener("click", () => {
      list.limit += 500;
      drawRows();
    });
    byId("csv").addEventListener("click", download);
    drawRows();
    if (!slices.length) return;
    const show = () => {
      recall();
      drawLegend();
      chooseSlice(state.slice);
    };
    byId("switches")?.addEventListener("change", (event) => {
      chooseSlice(nearest(Number(event.target.name.slice(5)), Number(event.target.value)));
      remember();
    });
    dark.addEventListener("change", show);
    window.addEventListener("hashchange", show);
    document.addEventListener("DOMContentLoaded", drawCurves);
    show();
  }
  start();
})();
