// Small charts, drawn as SVG made element by element: bars in rows, and lines over time.

const SVG_SPACE = "http://www.w3.org/2000/svg";

function shape(tag, attributes = {}, text = null, children = []) {
  const made = document.createElementNS(SVG_SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

// A box of a page with a title.
function panel(title, children, className = "") {
  return element("section", `panel ${className}`, null, [element("h2", "", title), ...children]);
}

// rows: { label, text, share 0..1, act?, hint?, tone? (a class of the bar) }. The rows are one grid, so that all bars have the same zero and full width.
function barRows(rows) {
  if (!rows.length) return element("div", "bars", null, [element("p", "faint", phrase("nothing"))]);
  return element("div", "bars", null, rows.map(({ label, text, share, act, hint, tone }) => {
    const name = element(act ? "button" : "span", act ? "bar-label link" : "bar-label", null, shortened(label));
    if (act) { name.type = "button"; name.addEventListener("click", act); }
    name.title = hint ?? label;
    const fill = element("span", ["bar-fill", share > 0 ? "" : "none", tone ?? ""].filter(Boolean).join(" "));
    fill.style.width = `${Math.max(0, Math.min(100, 100 * share)).toFixed(2)}%`;
    return element("div", "bar-row", null, [name, element("span", "bar-space", null, [fill]), element("span", "bar-text", text)]);
  }));
}

// A round step for about `parts` ticks up to `most`, in powers of two (bytes) or of ten.
function tickStep(most, parts, binary) {
  const wanted = most / parts;
  if (!(wanted > 0)) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(wanted));
  const ten = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((k) => k * ten).find((step) => step >= wanted);
}

// A chart without words, a line high. points: [[x, y], ...]; all begin at zero.
function sparkline(lines, label) {
  const width = 220, height = 34;
  const all = lines.flatMap((line) => line.points);
  const [first, last] = all.reduce(([a, b], [x]) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
  const most = all.reduce((a, [, y]) => Math.max(a, y), 1);
  const place = ([x, y]) => `${((x - first) / (last - first || 1) * width).toFixed(1)},${(height - 1 - y / most * (height - 3)).toFixed(1)}`;
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart spark", "aria-label": label, preserveAspectRatio: "none" },
    null, lines.map(({ points, className }) => shape("polyline", { class: `curve ${className}`, points: points.map(place).join(" ") })));
}

// lines: { name, className, points: [[x, y], ...], band?: [[x, low, high], ...] }; x in seconds, y in bytes.
function timeChart(lines, label) {
  const width = 720, height = 220, left = 78, bottom = 26, top = 10, right = 12;
  const all = lines.flatMap((line) => line.points);
  const lastX = Math.max(...all.map((p) => p[0]), 1e-9), mostY = Math.max(...all.map((p) => p[1]), 1) * 1.06;
  const x = (value) => left + value / lastX * (width - left - right);
  const y = (value) => height - bottom - value / mostY * (height - bottom - top);
  const words = lines.map(({ name, points }) => phrase("{name} at most {most}, {last} at the end", { name, most: bytesText(Math.max(...points.map((p) => p[1]))), last: bytesText(points.at(-1)[1]) }));
  const chart = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart", "aria-label": `${label}: ${words.join("; ")}` });
  for (let value = 0, step = tickStep(mostY, 4, true); value <= mostY; value += step) {
    chart.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      shape("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, roundBytesText(value)));
  }
  for (let value = 0, step = tickStep(lastX, 6, false); value <= lastX * 1.0001; value += step) {
    chart.append(shape("text", { class: "tick", x: x(value), y: height - 8, "text-anchor": "middle" }, `${+value.toPrecision(6)} s`));
  }
  for (const { points, band, className } of lines) {
    if (band?.length) {
      const edge = [...band.map((p) => [p[0], p[2]]), ...band.slice().reverse().map((p) => [p[0], p[1]])];
      chart.append(shape("polygon", { class: `band ${className}`, points: edge.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ") }));
    }
    chart.append(shape("polyline", { class: `curve ${className}`, points: points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ") }));
  }
  const legend = element("div", "legend", null, lines.map(({ name, className }) =>
    element("span", "legend-item", null, [element("span", `swatch ${className}`), element("span", "", name)])));
  return element("figure", "chart-box", null, [legend, chart]);
}
