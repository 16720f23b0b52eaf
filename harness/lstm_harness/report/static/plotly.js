/* Plotly stands at the end of the page, packed to a third of its size, so that the rest need not
   wait for it. The page's policy knows the hash of its code and runs no other. Where it is a file
   instead, it has run once the page is loaded. */
const plotly = new Promise((resolve, reject) => {
  document.addEventListener("DOMContentLoaded", () => unpackPlotly().then(resolve, reject));
});

async function unpackPlotly() {
  if (window.Plotly) return;
  const code = await inflate(document.getElementById("plotly").textContent);
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(code);
  document.head.append(script);
  script.remove();
}
