// The tabs Leaks, Diff and (with budget_tab.js) Budget: rows that end in a word. The word is always text; its colour only repeats it.

const VERDICT_WORDS = {
  fail: phrase("fail"), leak: phrase("leak"), new: phrase("new"), grown: phrase("grown"), "held-to-end": phrase("held to end"), inconclusive: phrase("inconclusive"),
  "cache-like": phrase("cache-like"), young: phrase("young"), shrunk: phrase("shrunk"), gone: phrase("gone"), noise: phrase("noise"), pass: phrase("pass"),
};
const VERDICT_ORDER = Object.keys(VERDICT_WORDS);

function verdictMark(verdict) {
  const known = VERDICT_ORDER.includes(verdict) ? verdict : "other";
  return element("span", `verdict verdict-${known}`, VERDICT_WORDS[known] ?? String(verdict ?? ""));
}

// What needs the reader first.
function byVerdict(rows) {
  return rows.slice().sort((a, b) => VERDICT_ORDER.indexOf(a.verdict) - VERDICT_ORDER.indexOf(b.verdict));
}

// How many rows each verdict has, those that are not on the page included.
function verdictCounts(block) {
  const words = Object.entries(block.counts ?? {}).sort((a, b) => VERDICT_ORDER.indexOf(a[0]) - VERDICT_ORDER.indexOf(b[0]));
  return element("p", "verdict-counts", null, words.flatMap(([verdict, count]) =>
    [verdictMark(verdict), element("span", "", ` ${countText(count)}  `)]));
}

// Below the table: what of each verdict is not on the page.
function leftOutLines(block, unit = "space") {
  const lines = byVerdict(block.left_out ?? []).map(({ verdict, rows, bytes, delta }) => {
    const amount = bytes ? pairText(bytes, unit) : delta ? withEnds(signedText(delta[0], unit), ...delta, unit, true) : "";
    return element("p", "", null, [verdictMark(verdict), element("span", "", ` ${phrase("{number} more, {amount}", { number: countText(rows), amount })}`)]);
  });
  if (!lines.length) return [];
  return [element("div", "left-out", null, [element("p", "faint", phrase("Not on this page, the smallest of their verdict:")), ...lines])];
}

function notesOf(block) {
  return (block.notes ?? []).map((note) => element("p", "faint", String(note)));
}

function frameText(frame) {
  const place = frame.file ? `${baseName(String(frame.file))}${frame.line > 0 ? `:${frame.line}` : ""}` : baseName(String(frame.module ?? ""));
  return place ? `${frame.function}  ${place}` : String(frame.function ?? "??");
}

// opened: the stacks that are open, by what their line says
function stackCell(row, opened = new Set()) {
  const stack = row.stack ?? [];
  if (!stack.length) return element("span", "", "??");
  // As in the terminal: the caller is the first function of another name, since compilers split functions.
  const names = stack.map((frame) => String(frame.function ?? "??"));
  const top = [names.find((name) => name !== names[0]), names[0]].filter((name) => name !== undefined);
  const summary = element("summary", "", null, top.flatMap((name, k) => [...(k ? [" \u2192 "] : []), ...shortened(name)]));
  if (row.stacks > 1) summary.append(element("span", "faint", ` (${plural("{number} stack", "{number} stacks", row.stacks)})`));
  summary.title = top.join(" \u2192 ");
  const key = stack.map(frameText).join("\n");
  const details = element("details", "stack", null, [
    summary,
    element("ol", "", null, stack.map((frame) => element("li", "", frameText(frame)))),
  ]);
  details.open = opened.has(key);
  details.addEventListener("toggle", () => { if (details.open) opened.add(key); else opened.delete(key); });
  return details;
}

function leaksTab(host, block, kept = {}) {
  kept.opened ??= new Set();
  const rows = block.rows ?? [];
  if (block.headline) host.append(element("p", "", String(block.headline)));
  host.append(verdictCounts(block), ...leftOutLines(block), element("p", "faint", phrase("This tab always counts bytes in use.")), ...notesOf(block));
  const live = (row) => withEnds(bytesText(row.bytes ?? 0), row.bytes, row.lower95, row.upper95, "space");
  const perHour = (row) => {
    if (row.bytes_per_hour === null || row.bytes_per_hour === undefined || row.verdict === "cache-like") return "";
    return row.growth ? `+${row.growth}` : phrase("too few samples to tell");
  };
  const table = showTable(host, [
    { key: "verdict", label: english("Verdict"), kind: "text", text: (row) => String(row.verdict), cell: (row) => verdictMark(row.verdict) },
    { key: "bytes", label: english("In use"), kind: "number", value: (row) => row.bytes, text: live },
    { key: "rate", label: english("Growth"), kind: "number", value: (row) => row.bytes_per_hour ?? null, text: perHour },
    { key: "stack", label: english("Stack"), kind: "text", main: true, text: (row) => (row.stack ?? []).map(frameText).join(" < "), cell: (row) => stackCell(row, kept.opened) },
    { key: "evidence", label: english("Evidence"), kind: "text", words: true, text: (row) => String(row.evidence ?? "") },
  ], rows, { search: (row) => `${row.verdict} ${(row.stack ?? []).map(frameText).join(" ")} ${row.evidence ?? ""}`, name: "leaks", kept });
  return table;
}

function diffTab(host, block, words, kept) {
  const rows = block.rows ?? [];
  const unit = block.unit === "objects" ? "objects" : "space";
  host.append(element("p", "faint", block.base_name ? phrase("{what}; base: {name}", { what: words, name: block.base_name }) : words));
  host.append(element("p", "", phrase("change since the base: {change}", { change: changeText95(block, "total", unit) })));
  host.append(verdictCounts(block), ...leftOutLines(block, unit), ...notesOf(block));
  const change = (row) => changeText95(row, "delta", unit);
  return showTable(host, [
    { key: "verdict", label: english("Verdict"), kind: "text", text: (row) => String(row.verdict), cell: (row) => verdictMark(row.verdict) },
    { key: "delta", label: english("Change"), kind: "number", value: (row) => row.delta, text: change },
    { key: "new", label: english("Now"), kind: "number", value: (row) => row.new, text: (row) => amountText(row.new ?? 0, unit) },
    { key: "base", label: english("Base"), kind: "number", value: (row) => row.base, text: (row) => amountText(row.base ?? 0, unit) },
    { key: "function", label: english("Function"), kind: "text", main: true, text: frameText, hint: (row) => `${row.function ?? "??"}  ${row.file ?? ""}` },
  ], rows, { search: (row) => `${row.verdict} ${frameText(row)} ${row.file ?? ""}`, name: "diff", kept });
}
