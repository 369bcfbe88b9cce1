// The tab Budget: every limit with its verdict, and the lines that hold most of it.

// rate: "/s", for bytes per second, or nothing
function rated(text, rate) {
  return text.replace(/\b(?:[KMGTP]iB|B)\b/g, (unit) => unit + rate);
}

function culpritItem(culprit, rate, unit) {
  const first = (culprit.stack ?? [])[0];
  const grew = culprit.delta !== null && culprit.delta !== undefined;
  const amount = rated(grew
    ? withEnds(signedText(culprit.delta, unit), culprit.delta, culprit.delta_lower95, culprit.delta_upper95, unit, true)
    : withEnds(amountText(culprit.bytes ?? 0, unit), culprit.bytes ?? 0, culprit.lower95, culprit.upper95, unit), rate);
  const name = first ? frameText(first) : phrase("[no stack]");
  const parts = [element("div", "", `${amount}  ${name}`)];
  if (culprit.text) parts.push(element("div", "faint", String(culprit.text)));
  if ((culprit.stack ?? []).length > 1) parts.push(stackCell(culprit));
  return element("li", "", null, parts);
}

function budgetTab(host, block) {
  const rows = byVerdict(block.rows ?? []);
  const rateOf = (row) => row.measure === "alloc_rate" ? "/s" : "";
  const unitOf = (row) => row.measure.startsWith("allocs") ? "objects" : "space";
  const amount = (row, value) => value === null || value === undefined ? "" : rated(amountText(value, unitOf(row)), rateOf(row));
  const measured = (row) => rated(row.value === null || row.value === undefined ? "" : withEnds(amountText(row.value, unitOf(row)), row.value, row.lower95, row.upper95, unitOf(row)), rateOf(row));
  const words = (row) => [row.reason, ...(row.notes ?? [])].filter(Boolean).join("; ");
  host.append(verdictCounts(block), ...notesOf(block));
  const columns = [
    { key: "verdict", label: english("Verdict"), kind: "text", text: (row) => String(row.verdict), cell: (row) => verdictMark(row.verdict) },
    { key: "value", label: english("Measured"), kind: "number", value: (row) => row.value ?? null, text: measured },
    { key: "limit", label: english("Limit"), kind: "number", value: (row) => row.limit ?? null, text: (row) => amount(row, row.limit) },
    { key: "excess", label: english("Over"), kind: "number", value: (row) => row.excess ?? null, text: (row) => row.excess > 0 ? amount(row, row.excess) : "" },
    { key: "name", label: english("Limit of"), kind: "text", main: true, short: true, text: (row) => String(row.name ?? ""), hint: (row) => String(row.where ?? "") },
    { key: "note", label: english("Note"), kind: "text", words: true, text: words },
  ];
  const filled = columns.filter(({ main, text }) => main || rows.some((row) => text(row) !== ""));
  const table = new DataTable(host, filled, rows, { search: (row) => `${row.verdict} ${row.name} ${words(row)}`, name: "budget" });
  for (const row of rows) {
    if (!(row.culprits ?? []).length) continue;
    host.append(element("h2", "", row.heading ? `${row.name}: ${row.heading}` : String(row.name)),
      element("ul", "culprits", null, row.culprits.map((culprit) => culpritItem(culprit, rateOf(row), unitOf(row)))));
  }
  return table;
}
