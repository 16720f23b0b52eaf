(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function draw(figure, number) {
    const plot = document.getElementById(`series-${number}`);
    const traces = figure.data.map((trace) => {
      const colour = dark.matches ? trace.meta.dark : trace.meta.light;
      const fill = trace.fill ? { fillcolor: `${colour}2e` } : {};
      return { ...trace, ...fill, marker: { ...trace.marker, color: colour }, line: { ...trace.line, color: colour } };
    });
    const axis = { gridcolor: style("--faint"), linecolor: style("--line"), zeroline: false, automargin: true };
    const layout = {
      ...figure.layout,
      xaxis: { ...axis, ...figure.layout.xaxis, showgrid: false, ticks: "outside", tickcolor: style("--line") },
      yaxis: { ...axis, exponentformat: "SI", ...figure.layout.yaxis },
      shapes: figure.cuts.map((x) => ({
        type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1,
        line: { color: style("--soft"), width: 1, dash: "dot" },
      })),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: style("--soft") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 12, t: 8, b: 8 },
      legend: { orientation: "h", y: -0.2, ...figure.layout.legend },
      showlegend: true,
      hovermode: "closest",
      hoverlabel: { bgcolor: style("--raised"), font: { color: style("--ink") }, align: "left" },
    };
    window.Plotly.react(plot, traces, layout, { displayModeBar: false, responsive: true });
  }
  const drawAll = () => data.forEach(draw);
  plotly.then(() => {
    dark.addEventListener("change", drawAll);
    drawAll();
  });
})();
