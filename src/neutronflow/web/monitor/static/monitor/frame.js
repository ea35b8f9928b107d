/* In a plot's frame: draws figures that came as JSON, and tells the page how high the plot is. */
"use strict";
const figure = document.getElementById("figure-data");
if (figure) {
  const { data, layout } = JSON.parse(figure.textContent);
  Plotly.newPlot("figure", data, layout || {}, { responsive: true });
}
// A live picture grows: the page hands over each new one.
window.addEventListener("message", (event) => {
  const grown = event.source === parent && event.data && event.data.figure;
  if (figure && grown && Array.isArray(grown.data)) Plotly.react("figure", grown.data, grown.layout || {}, { responsive: true });
});
const tell = () => parent.postMessage({ plotHeight: document.getElementById("plot-body").scrollHeight }, "*");
new ResizeObserver(tell).observe(document.getElementById("plot-body"));
tell();
