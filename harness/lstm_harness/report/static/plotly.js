/* Plotly stands at the end of the page, packed to a third of its size, so that the rest need not
   wait for it. The page's policy knows the hash of its code and runs no other. */
const plotly = new Promise((resolve, reject) => {
  document.addEventListener("DOMContentLoaded", () => unpackPlotly().then(resolve, reject));
});

async function unpackPlotly() {
  const code = await inflate(document.getElementById("plotly").textContent);
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(code);
  document.head.append(script);
  script.remove();
}
