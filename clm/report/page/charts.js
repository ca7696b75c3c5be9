// A line chart as SVG: three x axes to choose from, a cursor that reads values out, redrawn to fit its width.
// Our own, since it goes into every run's folder: a charting library would add 50 kB (uPlot) to 4 MB (plotly) to each.
"use strict";

const X_AXES = { step: 0, tokens: 1, seconds: 2 };  // where each lies in a point; the values follow
const VALUE = 3;
const MARGIN = { top: 10, right: 14, bottom: 26, left: 54 };

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Numbers as people read them

function compact(value) {
  const size = Math.abs(value);
  for (const [unit, factor] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]])
    if (size >= factor) return trimmed(value / factor, 3) + " " + unit;
  return size !== 0 && size < 1e-4 ? value.toExponential(1).replace("e-", "e−") : trimmed(value, 4);
}

function trimmed(value, digits) {
  return String(Number(value.toPrecision(digits)));
}

function duration(seconds) {
  if (seconds < 60) return trimmed(seconds, 3) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const X_FORMAT = { step: value => Math.round(value).toLocaleString("en"), tokens: compact, seconds: duration };

function exact(value) {
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-2) return value.toExponential(2).replace("e-", "e−");
  return size >= 1000 ? Math.round(value).toLocaleString("en") : trimmed(value, 5);
}

// Places of the ticks: 1, 2 or 5 times a power of ten; on a logarithmic axis the powers, and 2 and 5 where few

function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough) || 1;
  const found = [];
  for (let i = Math.ceil(low / width); i * width <= high + width * 1e-9; i++) found.push(Number((i * width).toPrecision(12)));
  return found;
}

function timeTicks(low, high, most) {
  const unit = high > 7200 ? 3600 : high > 120 ? 60 : 1, suffix = { 3600: " h", 60: " min", 1: " s" }[unit];
  return ticks(low / unit, high / unit, most).map(value => [value * unit, compact(value) + suffix]);
}

function logTicks(low, high, most) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of [1, 2, 5]) found.push(factor * 10 ** power);
  const seen = found.filter(value => value >= low * 0.999 && value <= high * 1.001);
  const powers = seen.filter(value => Number.isInteger(Number(Math.log10(value).toFixed(6))));
  return seen.length > most && powers.length > 1 ? powers : seen;
}

class LineChart {
  // description: {title, unit, lines: [{name, run, shape, points}]}; all: the lines of the whole
  // page, which share their x axis; onCursor(x or null) is told where the cursor is.
  constructor(figure, description, { all, tall, onCursor }) {
    Object.assign(this, { description, all, tall, onCursor, cursor: null, hidden: new Set() });
    this.view = { axis: "step", log: false, late: false };
    this.position = html("output", { class: "position" });
    this.legend = html("div", { class: "legend" });
    this.plot = html("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": `Read values in: ${description.title}` });
    const unit = description.unit ? html("span", { class: "unit" }, description.unit) : "";
    figure.append(html("figcaption", {}, html("strong", {}, description.title), " ", unit, this.position), this.legend, this.plot);
    this.buttons = description.lines.map((curve, number) => this.makeButton(curve, number));
    this.plot.addEventListener("pointermove", event => this.point(event));
    this.plot.addEventListener("pointerdown", event => this.point(event));
    this.plot.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.onCursor(null));
    this.plot.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  makeButton(curve, number) {
    const value = html("span", { class: "value" });
    const button = html("button", { type: "button", "aria-pressed": "true" },
      html("i", { class: `swatch ${style(curve)}` }), html("span", {}, curve.name), value);
    button.addEventListener("click", () => {
      if (!this.hidden.delete(number)) this.hidden.add(number);
      button.setAttribute("aria-pressed", String(!this.hidden.has(number)));
      this.draw();
    });
    this.legend.append(button);
    return value;
  }

  set(view) {
    this.view = view;
    this.draw();
  }

  // The points to draw of each curve, sorted out by axis, view and legend
  visible() {
    const at = X_AXES[this.view.axis];
    const usable = point => point[at] !== null && (!this.view.log || point[at] > 0);
    let curves = this.description.lines.map((curve, i) => ({ ...curve, at, points: this.hidden.has(i) ? [] : curve.points.filter(usable) }));
    let [low, high] = extent(this.all.flatMap(curve => curve.points.filter(usable).map(point => point[at])));
    if (this.view.late) {
      low = low + (high - low) / 2;
      curves = curves.map(curve => ({ ...curve, points: curve.points.filter(point => point[at] >= low) }));
    } else if (!this.view.log) low = Math.min(low, 0);
    return { curves, low, high: high > low ? high : low + (Math.abs(low) || 1) };
  }

  draw() {
    const width = this.plot.clientWidth, height = this.tall ? Math.max(260, Math.min(440, width * 0.45)) : 170;
    if (!width) return;
    const { curves, low, high } = this.visible();
    this.curves = curves;
    const ys = curves.flatMap(curve => curve.points.flatMap(point => point.slice(VALUE)));
    if (!ys.length) return this.plot.replaceChildren(html("p", { class: "empty" }, "Nothing to show here."));
    const [bottom, top] = padded(...extent(this.tall ? ys : [0, ...ys]));
    const across = this.view.log ? Math.log10 : value => value;
    const inner = width - MARGIN.left - MARGIN.right, tall = height - MARGIN.top - MARGIN.bottom;
    this.x = value => MARGIN.left + inner * (across(value) - across(low)) / (across(high) - across(low));
    this.y = value => MARGIN.top + tall * (top - value) / (top - bottom);
    this.size = { width, height, low, high };
    this.marks = svg("g", { class: "marks" });
    this.plot.replaceChildren(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      this.grid(bottom, top), ...curves.map(curve => this.line(curve)), this.marks));
    this.show(this.cursor);
  }

  grid(bottom, top) {
    const { width, height, low, high } = this.size, group = svg("g", { class: "grid" });
    const most = Math.max(3, Math.floor((width - MARGIN.left) / 90)), name = this.view.axis;
    const label = value => name === "seconds" ? duration(value) : compact(value);
    const across = this.view.log ? logTicks(low, high, most).map(value => [value, label(value)])
      : name === "seconds" ? timeTicks(low, high, most) : ticks(low, high, most).map(value => [value, compact(value)]);
    for (const value of ticks(bottom, top, this.tall ? 6 : 4))
      group.append(svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: this.y(value), y2: this.y(value) }),
        svg("text", { x: MARGIN.left - 8, y: this.y(value) + 4, "text-anchor": "end" }, compact(value)));
    for (const [value, text] of across) {
      const anchor = this.x(value) > width - 30 ? "end" : "middle";
      group.append(svg("line", { class: "tick", x1: this.x(value), x2: this.x(value), y1: height - MARGIN.bottom, y2: height - MARGIN.bottom + 5 }),
        svg("text", { x: Math.min(this.x(value), width - 2), y: height - 6, "text-anchor": anchor }, text));
    }
    return group;
  }

  line(curve) {
    const group = svg("g", { class: `curve ${style(curve)}` }), at = curve.at;
    const place = (point, value) => `${this.x(point[at]).toFixed(1)},${this.y(point[value]).toFixed(1)}`;
    if (!curve.points.length) return group;
    if (curve.shape === "band") {
      const back = [...curve.points].reverse().map(point => place(point, VALUE + 1));
      group.append(svg("polygon", { points: [...curve.points.map(point => place(point, VALUE)), ...back].join(" ") }));
      return group;
    }
    group.append(svg("polyline", { points: curve.points.map(point => place(point, VALUE)).join(" ") }));
    if (curve.points.length === 1 || (curve.shape === "dots" && curve.points.length <= 60))
      for (const point of curve.points) group.append(svg("circle", { cx: this.x(point[at]), cy: this.y(point[VALUE]), r: 3 }));
    return group;
  }

  // The cursor

  places() {
    const all = this.curves.flatMap(curve => curve.shape === "band" ? [] : curve.points.map(point => point[curve.at]));
    return [...new Set(all)].sort((a, b) => a - b);
  }

  point(event) {
    if (!this.curves || !this.x) return;
    const left = event.clientX - this.plot.getBoundingClientRect().left;
    const near = this.places().reduce((best, x) => Math.abs(this.x(x) - left) < Math.abs(this.x(best) - left) ? x : best, Infinity);
    if (near !== Infinity) this.onCursor(near);
  }

  key(event) {
    const places = this.places();
    const now = this.cursor === null ? places.length : nearest(places, this.cursor, value => value);
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - 10, PageUp: now + 10, Home: 0, End: places.length - 1 }[event.key];
    if (event.key === "Escape") return this.onCursor(null);
    if (next === undefined || !places.length) return;
    event.preventDefault();
    this.onCursor(places[Math.max(0, Math.min(places.length - 1, next))]);
  }

  // Put the cursor at x, or the last values into the legend where x is null
  show(x) {
    this.cursor = x;
    if (!this.curves || !this.x) return;
    this.marks.replaceChildren();
    const said = [];
    this.curves.forEach((curve, number) => {
      const near = x === null ? curve.points.length - 1 : nearest(curve.points, x, point => point[curve.at]);
      const point = curve.points[near];
      const text = point ? point.slice(VALUE).map(exact).join(" to ") : "";
      this.buttons[number].textContent = text;
      if (x === null || !point) return;
      said.push(`${curve.name} ${text}`);
      if (curve.shape !== "band")
        this.marks.append(svg("circle", { class: style(curve), cx: this.x(point[curve.at]), cy: this.y(point[VALUE]), r: 4.5 }));
    });
    const { low, high, height } = this.size, shown = x !== null && x >= low && x <= high;
    if (shown) this.marks.prepend(svg("line", { x1: this.x(x), x2: this.x(x), y1: MARGIN.top, y2: height - MARGIN.bottom }));
    const unit = this.view.axis === "seconds" ? "" : ` ${this.view.axis}`;
    const where = x === null ? "" : unit === " step" ? `step ${X_FORMAT.step(x)}` : X_FORMAT[this.view.axis](x) + unit;
    this.position.textContent = where;
    const at = { "aria-valuemin": low, "aria-valuemax": high, "aria-valuenow": x === null ? high : x };
    for (const [name, value] of Object.entries(at)) this.plot.setAttribute(name, String(value));
    this.plot.setAttribute("aria-valuetext", x === null ? "no position chosen" : [where, ...said].join(", "));
  }
}

function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function padded(low, high) {
  const room = (high - low) * 0.05 || Math.abs(low) * 0.05 || 1;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function nearest(items, x, of) {
  let best = -1;
  items.forEach((item, i) => { if (best < 0 || Math.abs(of(item) - x) < Math.abs(of(items[best]) - x)) best = i; });
  return best;
}

function style(curve) {
  return `${curve.shape} ${curve.role} run${curve.run % 8}`;
}
