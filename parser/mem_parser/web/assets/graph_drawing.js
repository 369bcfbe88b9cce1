// A call graph as the SVG that mem_parser/reports/svg.py would make, but for the layout.

const GRAPH_FONT = "Helvetica, Arial, sans-serif";
const SMALLEST_FONT = 9, LARGEST_FONT = 34, LABEL_WRAP = 36, LONGEST_LABEL = 240;

// Fill and line: from grey for little to red for all of the total.
function shareColours(share) {
  const strength = Math.sqrt(Math.min(Math.max(share, 0), 1));
  const colour = (from, by) => `rgb(${from.map((value, k) => Math.round(value + by[k] * strength)).join(" ")})`;
  return [colour([245, 243, 240], [-8, -50, -65]), colour([130, 130, 130], [50, -110, -120])];
}

function wrappedName(name) {
  const lines = [""];
  const cut = name.length > LONGEST_LABEL ? `${name.slice(0, LONGEST_LABEL - 1)}\u2026` : name;
  for (const piece of cut.split(/(?<=::)|(?= )/)) {
    if (lines[lines.length - 1] && lines[lines.length - 1].length + piece.length > LABEL_WRAP) lines.push("");
    lines[lines.length - 1] += piece;
  }
  return lines.map((line) => line.trim()).filter(Boolean);
}

// graph: of `callGraph`; the text of the SVG, with `legend` above.
function drawGraph(graph, unit, legend) {
  const measure = document.createElement("canvas").getContext("2d");
  const share = (value) => value / (graph.total || 1);
  const boxes = graph.nodes.map(({ name, flat, cum }) => {
    const font = SMALLEST_FONT + (LARGEST_FONT - SMALLEST_FONT) * Math.sqrt(Math.min(share(flat), 1));
    const lines = [...wrappedName(name), `${amountText(flat, unit)} (${percentText(flat, graph.total)})`];
    if (cum - flat > 1e-9 * Math.max(cum, 1)) lines.push(`of ${amountText(cum, unit)} (${percentText(cum, graph.total)})`);
    measure.font = `${font}px ${GRAPH_FONT}`;
    return { name, lines, font, cum, width: Math.max(...lines.map((line) => measure.measureText(line).width)) + 18, height: lines.length * font * 1.2 + 12 };
  });
  if (boxes.length) layOut(boxes, graph.edges);
  const text = (x, y, size, content, anchor = "middle") =>
    shape("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, "font-family": GRAPH_FONT, "font-size": size.toFixed(1) }, content);
  const group = shape("g");
  boxes.forEach((box) => group.append(boxShape(box, share(box.cum), text)));
  for (const edge of graph.edges) {
    const title = `${graph.nodes[edge.from].name} \u2192 ${graph.nodes[edge.to].name}`;
    group.append(callShape(edge, title, share(edge.value), amountText(edge.value, unit), text));
  }
  const left = Math.min(0, ...boxes.map((box) => box.x - box.width / 2));
  legend.forEach((line, k) => group.append(text(left, (k - legend.length) * 20 - 10, 16, line, "start")));
  const svg = shape("svg");
  svg.append(group);
  return new XMLSerializer().serializeToString(svg);
}

function boxShape(box, share, text) {
  const [fill, stroke] = shareColours(share);
  const [left, right, bottom] = [box.x - box.width / 2, box.x + box.width / 2, box.y + box.height];
  const made = shape("g");
  made.append(shape("title", {}, box.name),
    shape("polygon", { fill, stroke, points: `${left},${box.y} ${right},${box.y} ${right},${bottom} ${left},${bottom}` }),
    ...box.lines.map((line, k) => text(box.x, box.y + 6 + box.font * (1.2 * k + 0.95), box.font, line)));
  return made;
}

// A call: a curve through its bends, with an arrow.
function callShape({ points, up, indirect }, title, share, label, text) {
  const end = points.length - 1, sign = up ? -1 : 1;
  let line = `M${points[0].join(" ")}`;
  for (let k = 1; k <= end; k += 1) {
    const [x0, y0] = points[k - 1], [x1, y1] = k === end ? [points[k][0], points[k][1] - 6 * sign] : points[k];
    line += `C${x0} ${(y0 + y1) / 2} ${x1} ${(y0 + y1) / 2} ${x1} ${y1}`;
  }
  const [x, y] = points[end];
  const made = shape("g");
  made.append(shape("title", {}, title),
    shape("path", { d: line, fill: "none", stroke: "#606060", "stroke-width": (1 + 5 * Math.min(share, 1)).toFixed(2), ...indirect ? { "stroke-dasharray": "5 3" } : {} }),
    shape("polygon", { fill: "#606060", points: `${x},${y} ${x - 4},${y - 7 * sign} ${x + 4},${y - 7 * sign}` }),
    text((points[0][0] + points[1][0]) / 2 + 4, (points[0][1] + points[1][1]) / 2 + 4, 11, label, "start"));
  return made;
}
