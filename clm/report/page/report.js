// The page: its charts from the data in it, and the controls that all of them share.
"use strict";

function choice(type, name, value, label, checked) {
  const input = html("input", { type, name, value });
  input.checked = checked;
  return html("label", {}, input, html("span", {}, label));
}

function controls(axes) {
  const labels = { step: "Steps", tokens: "Tokens", seconds: "Time" };
  const form = html("form", { class: "controls", "aria-label": "How the charts are drawn" });
  const group = html("fieldset", {}, html("legend", {}, "Against"));
  group.append(...axes.map((axis, i) => choice("radio", "axis", axis, labels[axis], i === 0)));
  form.append(group, html("fieldset", {}, choice("checkbox", "late", "late", "Last half only", false),
    choice("checkbox", "log", "log", "Logarithmic axis", false)));
  return form;
}

function start() {
  const descriptions = JSON.parse(document.getElementById("charts-data").textContent);
  const place = document.getElementById("charts");
  if (!descriptions.length) return;
  const all = descriptions.flatMap(chart => chart.lines);
  const known = axis => all.some(curve => curve.points.some(point => point[X_AXES[axis]] !== null));
  const axes = Object.keys(X_AXES).filter(known);
  const form = controls(axes);
  const charts = [];
  const onCursor = x => charts.forEach(chart => chart.show(x));
  place.replaceChildren(form);
  for (const [i, description] of descriptions.entries()) {
    const figure = html("figure", { class: i === 0 ? "main" : "panel" });
    place.append(figure);
    charts.push(new LineChart(figure, description, { all, tall: i === 0, onCursor }));
  }
  form.addEventListener("change", () => {
    const chosen = new FormData(form);
    const view = { axis: chosen.get("axis"), log: chosen.has("log"), late: chosen.has("late") };
    charts.forEach(chart => chart.set(view));
    onCursor(null);
  });
}

start();
