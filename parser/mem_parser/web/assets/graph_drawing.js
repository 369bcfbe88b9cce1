// A call graph as shapes of SVG, as mem_parser/reports/svg.py draws it, but for the layout.

const GRAPH_FONT = "Helvetica, Arial, sans-serif";
const EDGE_FONT = 11, LABEL_GAP = 4;
const SMALLEST_FONT = 9, LARGEST_FONT = 34, LABEL_WRAP = 36, LONGEST_LABEL = 240;

// Colours for little, for much (red), and for what shrank (blue).
const BOX_COLOURS = {
  fill: [[245, 243, 240], [237, 193, 175], [175, 210, 242]],
  stroke: [[130, 130, 130], [180, 20, 10], [20, 70, 190]],
  dark: [[48, 51, 57], [122, 44, 36], [28, 66, 124]],
};

// The colours at 0 for little to 1 for all, and to -1 for what shrank most.
function boxColours(strength) {
  return Object.fromEntries(Object.entries(BOX_COLOURS).map(([name, [little, more, less]]) => {
    const end = strength < 0 ? less : more;
    return [name, `rgb(${little.map((value, k) => Math.round(value + (end[k] - value) * Math.abs(strength))).join(" ")})`];
  }));
}

// Of a change the part of the largest one; 0 for noise.
function changeStrength(change, most) {
  return change.noise || !most ? 0 : Math.sign(change.value) * Math.sqrt(Math.abs(change.value) / most);
}

function changeLine(change, unit) {
  if (change.value === 0) return phrase("unchanged");
  const [lower, upper] = change.ends.map((end) => Number.isFinite(end) ? end : null);
  return `${change.noise ? "~" : ""}${withEnds(signedText(change.value, unit), change.value, lower, upper, unit, true)}`;
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

// Gives each box its x (of the middle) and y (of the top), and each edge its points and the place of its label: callers above
// callees, room for each label.
function layOut(boxes, edges) {
  const layout = new dagre.graphlib.Graph();
  layout.setGraph({ nodesep: 24, edgesep: 8, ranksep: 26 });
  boxes.forEach(({ width, height }, k) => layout.setNode(String(k), { width, height }));
  for (const { from, to, width } of edges) layout.setEdge(String(from), String(to), { width, height: EDGE_FONT + LABEL_GAP, labelpos: "r", labeloffset: LABEL_GAP });
  dagre.layout(layout);
  boxes.forEach((box, k) => { const { x, y } = layout.node(String(k)); Object.assign(box, { x, y: y - box.height / 2 }); });
  for (const edge of edges) {
    const { points, x, y } = layout.edge(String(edge.from), String(edge.to));
    Object.assign(edge, { points: points.map((point) => [point.x, point.y]), labelX: x, labelY: y });
  }
}

// graph: of `callGraph`; the group of its shapes.
function drawGraph(graph, unit) {
  const measure = document.createElement("canvas").getContext("2d");
  const share = (value) => value / (graph.total || 1);
  const mostOwn = Math.max(...graph.nodes.map(({ ownChange }) => Math.abs(ownChange ?? 0)));
  const boxes = graph.nodes.map(({ name, flat, cum, change, ownChange }) => {
    const weight = change ? Math.abs(changeStrength({ ...change, value: ownChange }, mostOwn)) : Math.sqrt(Math.min(share(flat), 1));
    const font = SMALLEST_FONT + (LARGEST_FONT - SMALLEST_FONT) * weight;
    const lines = [...wrappedName(name), `${amountText(flat, unit)} (${percentText(flat, graph.total)})`];
    const beside = cum - flat > 1e-9 * Math.max(cum, 1);
    if (beside) lines.push(phrase("of {amount} ({share})", { amount: amountText(cum, unit), share: percentText(cum, graph.total) }));
    if (change) lines.push(beside ? phrase("total {change}", { change: changeLine(change, unit) }) : changeLine(change, unit));
    measure.font = `${font}px ${GRAPH_FONT}`;
    return { name, lines, font, cum, change, width: Math.max(...lines.map((line) => measure.measureText(line).width)) + 18, height: lines.length * font * 1.2 + 12 };
  });
  measure.font = `${EDGE_FONT}px ${GRAPH_FONT}`;
  for (const edge of graph.edges) {
    edge.label = `${amountText(edge.value, unit)}${edge.change ? ` (${signedText(edge.change, unit)})` : ""}`;
    edge.width = measure.measureText(edge.label).width;
  }
  layOut(boxes, graph.edges);
  const text = (x, y, size, content) =>
    shape("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": "middle", "font-family": GRAPH_FONT, "font-size": size.toFixed(1) }, content);
  const group = shape("g");
  const most = graph.change ? Math.max(0, ...boxes.map((box) => Math.abs(box.change.value))) : 0;
  for (const box of boxes) group.append(boxShape(box, boxColours(box.change ? changeStrength(box.change, most) : Math.sqrt(Math.min(Math.max(share(box.cum), 0), 1))), text));
  for (const edge of graph.edges) {
    const title = `${graph.nodes[edge.from].name} \u2192 ${graph.nodes[edge.to].name}`;
    group.append(callShape(edge, title, share(edge.value), text));
  }
  return group;
}

function boxShape(box, { fill, stroke, dark }, text) {
  const [left, right, bottom] = [box.x - box.width / 2, box.x + box.width / 2, box.y + box.height];
  const made = shape("g");
  made.append(shape("title", {}, box.name),
    shape("polygon", { class: "box", style: `--dark: ${dark}`, fill, stroke, points: `${left},${box.y} ${right},${box.y} ${right},${bottom} ${left},${bottom}` }),
    ...box.lines.map((line, k) => text(box.x, box.y + 6 + box.font * (1.2 * k + 0.95), box.font, line)));
  return made;
}

// A call: a curve along its points, with an arrow.
function callShape({ points, indirect, label, labelX, labelY }, title, share, text) {
  const [end, before] = [points.at(-1), points.at(-2)];
  const length = Math.hypot(end[0] - before[0], end[1] - before[1]) || 1;
  const [dx, dy] = [(end[0] - before[0]) / length, (end[1] - before[1]) / length];
  const halfway = ([x0, y0], [x1, y1]) => `${(x0 + x1) / 2} ${(y0 + y1) / 2}`;
  let line = `M${points[0].join(" ")}L${halfway(points[0], points[1])}`;
  for (let k = 1; k < points.length - 1; k += 1) line += `Q${points[k].join(" ")} ${halfway(points[k], points[k + 1])}`;
  line += `L${end[0] - 6 * dx} ${end[1] - 6 * dy}`;
  const [x, y] = [end[0] - 7 * dx, end[1] - 7 * dy];
  const made = shape("g", { class: "call" });
  made.append(shape("title", {}, title),
    shape("path", { d: line, fill: "none", stroke: "#606060", "stroke-width": (1 + 5 * Math.min(share, 1)).toFixed(2), ...indirect ? { "stroke-dasharray": "5 3" } : {} }),
    shape("polygon", { fill: "#606060", points: `${end} ${x - 4 * dy},${y + 4 * dx} ${x + 4 * dy},${y - 4 * dx}` }),
    text(labelX, labelY + EDGE_FONT / 3, EDGE_FONT, label));
  return made;
}
