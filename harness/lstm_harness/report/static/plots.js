/* A plot of the report as plotly draws it: colours, symbols, hover texts. */
const isBar = (trace) => trace.type === "bar";

/* Plotly reads tags and entities in a text; a name is none. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
function traceName(trace) {
  return trace.meta === null ? trace.name : backends[trace.meta].short;
}

function drawPlot(node, plot, says) {
  node.setAttribute("aria-label", says);
  const traces = plot.data
    .filter((trace) => !view.hidden.has(trace.meta))
    .map((trace) => dressed(trace, plot.layout));
  const layout = laidOut(plot);
  window.Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
}

function dressed(trace, layout) {
  const { meta, ...rest } = trace;
  return {
    ...rest,
    ...(isBar(trace) ? asBars(trace) : asPoints(trace)),
    name: plain(traceName(trace)),
    hoverinfo: trace.hoverinfo || "text",
    hovertext: trace.hovertext || trace.x.map((_, point) => hover(trace, point, layout)),
  };
}
function asPoints(trace) {
  const own = trace.meta === null ? styled("--ink") : colour(trace.meta);
  const symbol = trace.meta === null ? {} : { symbol: backends[trace.meta].symbol };
  return {
    mode: trace.mode || "lines+markers",
    marker: { size: 8, ...symbol, color: own, ...trace.marker },
    line: { width: 2, color: own, ...trace.line },
    error_y: reach(trace.error_y, own),
    error_x: reach(trace.error_x, own),
    textfont: { color: styled("--ink"), size: 12 },
  };
}
/* What a bar says stands beside it on the axis: inside, colours and error bars would hide it. */
function asBars(trace) {
  const own = trace.meta === null ? styled("--soft") : colour(trace.meta);
  return {
    marker: { color: own, ...trace.marker },
    error_y: reach(trace.error_y, styled("--ink")),
    error_x: reach(trace.error_x, styled("--ink")),
    textposition: "none",
  };
}
const reach = (bars, color) => bars && { symmetric: false, thickness: 1.2, width: 3, color, ...bars };

/* What stands under the pointer, from the number of its row. */
function hover(trace, point, layout) {
  const lying = trace.orientation === "h";
  const value = lying ? trace.x[point] : trace.y[point];
  const title = (lying ? layout.xaxis : layout.yaxis)?.title?.text || "";
  const lines = [`<b>${plain(traceName(trace))}</b>`];
  const number = trace.customdata?.[point];
  if (typeof number === "number") lines[0] += `, ${plain(rowName(number))}`;
  lines.push(`${shown(value)} ${plain(title)}`);
  if (typeof number === "number") lines.push(rowTime(number));
  return lines.join("<br>");
}
function rowName(number) {
  const value = (name) => table.rows[number][columnOf(name)];
  return `T ${value("seq_len")}, B ${value("batch")}, H ${value("hidden_size")}`;
}
function rowTime(number) {
  const [median, low, high] = ["median_ns", "low_ns", "high_ns"].map((name) => table.rows[number][columnOf(name)]);
  if (median === null) return "no time";
  const interval = low === null ? "interval unknown" : `95%: ${duration(low)} to ${duration(high)}`;
  return `${duration(median)} (${interval})`;
}

function laidOut({ data: traces, layout: given }) {
  const axis = {
    gridcolor: styled("--faint"), linecolor: styled("--line"), tickcolor: styled("--line"),
    zeroline: false, automargin: true, exponentformat: "SI", nticks: 7,
  };
  const soft = { color: styled("--soft") };
  const names = traces.filter((trace) => trace.meta === null && trace.mode === "lines").map((trace) => nameOnLine(trace, given));
  return {
    ...given,
    xaxis: { ...axis, ticks: "outside", showgrid: false, ...logTicks(given.xaxis, traces, "x"), ...given.xaxis, ...thinned(given.xaxis) },
    yaxis: { ...axis, ...logTicks(given.yaxis, traces, "y"), ...given.yaxis, ...saidOfBars(given.yaxis, traces) },
    shapes: given.shapes?.map((shape) => ({ ...shape, line: { width: 1.2, dash: "dot", ...soft, ...shape.line } })),
    annotations: [...(given.annotations || []), ...names].map((note) => ({ showarrow: false, ...note, font: { size: 11.5, ...soft, ...note.font } })),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, ...soft },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 12, t: 8, b: 8 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: styled("--raised"), bordercolor: styled("--line"), font: { color: styled("--ink") }, align: "left" },
    dragmode: false,
  };
}

/* Names of lying bars, each with what the bar says below it. */
function saidOfBars(axis, traces) {
  const lying = traces.filter((trace) => isBar(trace) && trace.orientation === "h" && trace.text);
  if (!lying.length || !axis?.ticktext) return {};
  const said = new Map(lying.flatMap((trace) => trace.y.map((place, i) => [place, trace.text[i]])));
  const ticktext = axis.tickvals.map((place, i) => [axis.ticktext[i], said.get(place)].filter(Boolean).join("<br>"));
  return { ticktext };
}

/* A line of no backend has its name near its start: below where it rises, else above. */
function nameOnLine(trace, layout) {
  const near = (axis, values) => {
    const [first, second] = values.map((value) => (layout[axis]?.type === "log" ? Math.log10(value) : value));
    return typeof second === "number" ? first + (second - first) / 50 : first;
  };
  const rises = trace.y[trace.y.length - 1] > trace.y[0];
  return {
    text: plain(trace.name), x: near("xaxis", trace.x), y: near("yaxis", trace.y),
    xanchor: "left", yanchor: rises ? "top" : "bottom", xshift: rises ? 8 : 0,
  };
}

/* Ticks of a logarithmic axis: 1, 2 and 5 of each decade, or 1 alone of many, written in full. */
const tickText = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
function logTicks(axis, traces, letter) {
  if (axis?.type !== "log" || axis.tickvals) return {};
  const values = traces.flatMap((trace) => trace[letter]).filter((value) => value > 0);
  const low = Math.floor(Math.log10(values.reduce((a, b) => Math.min(a, b), Infinity)));
  const high = Math.ceil(Math.log10(values.reduce((a, b) => Math.max(a, b), 0)));
  if (!values.length || high - low > 12) return {};
  const digits = high - low > 4 ? [1] : [1, 2, 5];
  const tickvals = [];
  for (let power = low; power <= high; power++) tickvals.push(...digits.map((digit) => digit * 10 ** power));
  const small = (value) => (value < 1e-3 ? value.toExponential(0) : tickText.format(value).replace("K", "k").replace("B", "G"));
  return { tickvals, ticktext: tickvals.map(small) };
}
/* Of many sizes on an axis every other one, or fewer, is written. */
function thinned(axis) {
  if (!axis?.tickvals || axis.tickvals.length <= 10) return {};
  const every = Math.ceil(axis.tickvals.length / 10);
  return { ticktext: axis.tickvals.map((size, i) => (i % every ? "" : (axis.ticktext || axis.tickvals)[i])) };
}
