// The tab Budget: every limit with its verdict, and who makes an excess up.

function culpritItem(culprit, rate) {
  const first = (culprit.stack ?? [])[0];
  const grew = culprit.delta !== null && culprit.delta !== undefined;
  const bytes = (grew ? signedText(culprit.delta, "space") : bytesText(culprit.bytes ?? 0)) + rate;
  const amount = grew
    ? withEnds(bytes, culprit.delta, culprit.delta_lower95, culprit.delta_upper95, "space", true)
    : withEnds(bytes, culprit.bytes ?? 0, culprit.lower95, culprit.upper95, "space");
  const name = first ? frameText(first) : phrase("[no stack]");
  const parts = [element("div", "", `${amount}  ${name}`)];
  if (culprit.text) parts.push(element("div", "faint", String(culprit.text)));
  if ((culprit.stack ?? []).length > 1) parts.push(stackCell(culprit));
  return element("li", "", null, parts);
}

function budgetTab(host, block) {
  const rows = byVerdict(block.rows ?? []);
  const rateOf = (row) => row.measure === "alloc_rate" ? "/s" : "";
  const amount = (row, value) => value === null || value === undefined ? "" : bytesText(value) + rateOf(row);
  const measured = (row) => withEnds(amount(row, row.value), row.value, row.lower95, row.upper95, "space");
  const words = (row) => [row.reason, ...(row.notes ?? [])].filter(Boolean).join("; ");
  host.append(verdictCounts(block), ...notesOf(block));
  const table = new DataTable(host, [
    { key: "verdict", label: english("Verdict"), kind: "text", text: (row) => String(row.verdict), cell: (row) => verdictMark(row.verdict) },
    { key: "value", label: english("Measured"), kind: "number", value: (row) => row.value ?? null, text: measured },
    { key: "limit", label: english("Limit"), kind: "number", value: (row) => row.limit ?? null, text: (row) => amount(row, row.limit) },
    { key: "excess", label: english("Over"), kind: "number", value: (row) => row.excess ?? null, text: (row) => row.excess > 0 ? amount(row, row.excess) : "" },
    { key: "name", label: english("Limit of"), kind: "text", main: true, text: (row) => String(row.name ?? ""), hint: (row) => String(row.where ?? "") },
    { key: "note", label: english("Note"), kind: "text", words: true, text: words },
  ], rows, { search: (row) => `${row.verdict} ${row.name} ${words(row)}`, name: "budget" });
  for (const row of rows) {
    if (!(row.culprits ?? []).length) continue;
    host.append(element("h2", "", phrase("{name}: who makes it up", { name: row.name })),
      element("ul", "culprits", null, row.culprits.map((culprit) => culpritItem(culprit, rateOf(row)))));
  }
  return table;
}
