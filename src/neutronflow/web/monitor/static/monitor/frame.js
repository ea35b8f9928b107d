/* In a plot's frame: draws figures that came as JSON, and tells the page how high the plot is. */
"use strict";
const figure = document.getElementById("figure-data");
if (figure) {
  const { data, layout } = JSON.parse(figure.textContent);
  Plotly.newPlot("figure", data, layout || {}, { responsive: true });
}
const tell = () => parent.postMessage({ plotHeight: document.getElementById("plot-body").scrollHeight }, "*");
new ResizeObserver(tell).observe(document.getElementById("plot-body"));
tell();
