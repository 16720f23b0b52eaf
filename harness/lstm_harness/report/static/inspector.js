/* Raw samples of the chosen case: in the order taken, and how they spread. Read only when asked. */
function samplesButton(name, whose, words = "samples") {
  const label = `Samples of ${whose}`;
  const button = make("button", { type: "button", class: "small-button", "aria-label": label }, words);
  button.addEventListener("click", () => {
    view.samples = name;
    changed("case", "samples");
    byId("samples").scrollIntoView();
    byId("samples-title").focus({ preventScroll: true });
  });
  return button;
}

/* Rows of the chosen case that have samples: one backend's, or all of them. */
function inspectedRows() {
  const value = (number, name) => table.rows[number][columnOf(name)];
  return rowsOfCase().filter((number) => value(number, "status") === "ok" && (!view.samples || value(number, "backend") === view.samples));
}

/* The blocks of a row's samples, [{block, ns, marked}]; none where the page leaves them out. */
let packed = null;
async function blocksOf(number) {
  packed ??= JSON.parse(byId("sample-data").textContent);
  return (await decodeSamples(packed, number)) || [];
}

let asked = 0;
async function inspect() {
  const part = (name) => byId("samples").querySelector(`.${name}`);
  const open = view.samples !== null;
  const mine = ++asked;
  byId("samples-show").textContent = open ? "Close" : "Show the samples of the chosen case";
  if (!open) {
    part("drawn").hidden = true;
    byId("samples-answer").textContent = "";
    return;
  }
  const rows = inspectedRows();
  const read = await Promise.all(rows.map(async (number) => ({
    index: backends.findIndex((one) => one.name === table.rows[number][columnOf("backend")]),
    blocks: await blocksOf(number),
  })));
  if (mine !== asked) return;
  const cells = read.filter((cell) => cell.blocks.length).sort((a, b) => a.index - b.index);
  part("drawn").hidden = !cells.length;
  const none = rows.length ? "these samples are left out of the page; the run's records.jsonl has them." : "no samples of this choice.";
  byId("samples-answer").textContent = `T = ${view.t}, B = ${view.b}: ${cells.length ? spreadAnswer(cells) : none}`;
  if (!cells.length) return;
  const plots = [orderPlot(cells), ecdfPlot(cells)];
  drawLegend(part("legend"), plots[0].data);
  part("numbers").lastElementChild.replaceChildren(spreadTable(cells));
  if (!window.Plotly) return;
  [...part("plots").querySelectorAll(".plot")].forEach((node, i) => drawPlot(node, plots[i], plots[i].title));
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
function spreadOf(cell) {
  const sorted = Float64Array.from(cell.blocks.flatMap((block) => block.ns)).sort();
  const marks = cell.blocks.reduce((sum, block) => sum + block.marked.length, 0);
  return { sorted, marks, low: quantile(sorted, 0.05), middle: quantile(sorted, 0.5), high: quantile(sorted, 0.95) };
}
function spreadAnswer(cells) {
  const spreads = cells.map((cell) => ({ cell, ...spreadOf(cell) }));
  const widest = spreads.reduce((most, one) => (one.high / one.low > most.high / most.low ? one : most));
  const marks = spreads.reduce((sum, one) => sum + one.marks, 0);
  const whose = cells.length > 1 ? `the samples of ${backends[widest.cell.index].short} vary most` : backends[widest.cell.index].short;
  const told = marks ? `${marks} of all samples ${marks === 1 ? "is" : "are"} marked as disturbed` : "no sample is marked as disturbed";
  return `${whose}: 90% lie between ${duration(widest.low)} and ${duration(widest.high)}; ${told}.`;
}

function unitOf(cells) {
  return timeScale(Math.max(...cells.map((cell) => spreadOf(cell).middle)));
}

/* Samples in the order taken; each block is as wide as any other. */
function orderPlot(cells) {
  const [scale, unit] = unitOf(cells);
  const numbers = [...new Set(cells.flatMap((cell) => cell.blocks.map((block) => block.block)))].sort((a, b) => a - b);
  const data = cells.flatMap((cell) => {
    const kept = { meta: cell.index, mode: "markers", x: [], y: [], hovertext: [], marker: { size: 4 } };
    const bad = { ...kept, x: [], y: [], hovertext: [], marker: { size: 9, symbol: "x-thin", line: { width: 1.6, color: styled("--bad") } } };
    for (const block of cell.blocks) {
      const disturbed = new Set(block.marked);
      block.ns.forEach((ns, i) => {
        const trace = disturbed.has(i) ? bad : kept;
        trace.x.push(numbers.indexOf(block.block) + (i + 1) / (block.ns.length + 1));
        trace.y.push(ns / scale);
        const note = disturbed.has(i) ? "<br>marked: the machine was disturbed" : "";
        trace.hovertext.push(`<b>${plain(backends[cell.index].short)}</b>, block ${block.block}, sample ${i}<br>${duration(ns)}${note}`);
      });
    }
    return bad.x.length ? [kept, bad] : [kept];
  });
  const layout = {
    xaxis: {
      title: { text: "block" }, range: [0, numbers.length],
      tickvals: numbers.map((_, i) => i + 0.5), ticktext: numbers.map(String),
    },
    yaxis: { title: { text: `time of one execution, ${unit}` }, ...timeAxis(data.flatMap((trace) => trace.y)) },
    shapes: numbers.slice(1).map((_, i) => ({ type: "line", x0: i + 1, x1: i + 1, yref: "paper", y0: 0, y1: 1, line: { width: 1 } })),
  };
  return { title: "In the order they were taken", data, layout };
}

function ecdfPlot(cells) {
  const [scale, unit] = unitOf(cells);
  const data = cells.map((cell) => {
    const { sorted } = spreadOf(cell);
    const x = [...sorted].map((ns) => ns / scale);
    const y = x.map((_, i) => (100 * (i + 1)) / x.length);
    const name = plain(backends[cell.index].short);
    const hovertext = x.map((_, i) => `<b>${name}</b><br>${y[i].toFixed(1)}% take ${duration(sorted[i])} or less`);
    return { meta: cell.index, mode: "lines", line: { shape: "hv", width: 1.8 }, x, y, hovertext };
  });
  const layout = {
    xaxis: { title: { text: `time of one execution, ${unit}` }, ...timeAxis(data.flatMap((trace) => trace.x)) },
    yaxis: { title: { text: "samples that took this long or less, %" }, range: [0, 101] },
  };
  return { title: "How many took this long or less", data, layout };
}
const timeAxis = (values) => (values.reduce((a, b) => Math.max(a, b)) > 4 * values.reduce((a, b) => Math.min(a, b)) ? { type: "log" } : {});

function spreadTable(cells) {
  const titles = ["Backend", "Block", "Samples", "Marked", "Fastest", "5%", "Median", "95%", "Slowest"];
  const head = make("tr", {}, ...titles.map((title, i) => make("th", { scope: "col", class: i ? "n" : null }, title)));
  const body = make("tbody");
  for (const cell of cells) {
    for (const block of cell.blocks) {
      const { sorted, marks, low, middle, high } = spreadOf({ blocks: [block] });
      const times = [sorted[0], low, middle, high, sorted[sorted.length - 1]].map(duration);
      const values = [block.block, sorted.length, marks, ...times].map((value) => make("td", { class: "n" }, String(value)));
      body.append(make("tr", {}, make("th", { scope: "row" }, named(cell.index)), ...values));
    }
  }
  return scrolled("Samples by block", make("table", { class: "plain" }, make("thead", {}, head), body));
}

function startInspector() {
  const box = byId("samples").querySelector(".plots");
  for (const title of ["In the order they were taken", "How many took this long or less"]) {
    box.append(make("figure", {}, make("h3", {}, title), make("div", { class: "plot", role: "img", "aria-label": title })));
  }
  byId("samples-show").addEventListener("click", () => {
    view.samples = view.samples === null ? "" : null;
    changed("samples");
  });
  follow(["case", "hidden", "theme", "samples"], inspect);
  plotly.then(inspect);
}
