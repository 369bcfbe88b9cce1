// The first tab: the answer before anything else, then how the memory is made up.

function panel(title, children, className = "") {
  return element("section", `panel ${className}`, null, [element("h2", "", title), ...children]);
}

function summaryTab(host, report) {
  const { tables, account, series, facts } = report;
  const totals = tables.totals;
  const number = (label, amount, unit) => amount && element("div", "key-number", null, [
    element("span", "key-value", amountText(amount[0], unit)),
    element("span", "faint", withEnds("", ...amount, unit).trim()),
    element("span", "key-label", label)]);
  const numbers = element("div", "key-numbers", null, [
    number("in use", totals.inuse, "space"), number("objects in use", totals.objects, "objects"),
    number("allocated", totals.alloc, "space"), number("allocations", totals.allocations, "objects"),
  ].filter(Boolean));
  host.append(numbers);
  const grid = element("div", "panels");
  grid.append(topFunctions(report, "Who holds the memory", "inuse.own", "in use, charged to the function that called the allocator"));
  if (series.length > 1) grid.append(panel("Over time", [seriesChart(series)]));
  grid.append(panel("What the resident memory is made of", [accountRows(account)]));
  grid.append(panel("By module", [groupBars(tables.modules, (name) => baseName(name) || "unknown", totals.inuse[0])]));
  if (tables.domains.length > 1) grid.append(panel("By domain", [groupBars(tables.domains, (name) => name, totals.inuse[0])]));
  if (tables.sizes.length) grid.append(panel("By block size", [sizeBars(tables.sizes)]));
  if (tables.functions.keys.includes("alloc.own")) {
    grid.append(topFunctions(report, "Who allocates most", "alloc.own", "bytes allocated in all, freed or not"));
  }
  if (facts.facts.length) {
    grid.append(panel("The capture", [element("dl", "facts", null, facts.facts.map(([label, text]) =>
      element("div", "", null, [element("dt", "", label), element("dd", "", text)])))], "wide"));
  }
  host.append(grid);
}

function topFunctions(report, title, key, note) {
  const rows = report.tables.functions.rows.filter((row) => row[key]?.[0] > 0)
    .sort((a, b) => b[key][0] - a[key][0]).slice(0, 10);
  const whole = report.tables.totals[key.split(".")[0]][0];
  return panel(title, [element("p", "faint", note), barRows(rows.map((row) => ({
    label: row.name, hint: `${row.name}  ${row.file || row.module}`,
    text: `${pairText(row[key], "space")} (${percentText(row[key][0], whole)})`,
    share: row[key][0] / (rows[0][key][0] || 1),
    act: () => report.searchFlame(row.name),
  })))]);
}

function groupBars(groups, label, whole) {
  const shown = groups.slice(0, 12);
  const rows = shown.map((group) => ({
    label: label(group.name), hint: group.name, share: group.bytes[0] / (shown[0].bytes[0] || 1),
    text: `${pairText(group.bytes, "space")} (${percentText(group.bytes[0], whole)})`,
  }));
  const bars = barRows(rows);
  if (groups.length > shown.length) bars.append(element("p", "faint", `${groups.length - shown.length} smaller ones are not listed`));
  return bars;
}

function sizeBars(sizes) {
  const present = sizes.filter((row) => row.objects[0] > 0);
  const most = Math.max(...present.map((row) => row.bytes[0]), 1);
  return barRows(present.map((row) => ({
    label: row.to === 2 ? "0 and 1 B" : `from ${bytesText(row.from).replace(".00", "").replace(/\.0 /, " ")}`,
    text: `${bytesText(row.bytes[0])} in ${countText(row.objects[0])}`,
    share: row.bytes[0] / most,
  })));
}

function accountRows(account) {
  const notes = account.notes.map((note) => element("p", "faint", note));
  if (account.rss === null) return element("div", "", null, notes);
  const line = (label, value, ends, className) => element("tr", className, null, [
    element("th", "", label), element("td", "number", bytesText(value)),
    element("td", "faint", withEnds("", value, ...ends ?? [null, null], "space").trim()),
    element("td", "number faint", percentText(value, account.rss))]);
  const lines = account.rows.map(({ label, bytes, ends, inner }, k) =>
    line(inner ? `of it: ${label}` : k === 0 ? label : `+ ${label}`, bytes, ends, inner ? "inner" : ""));
  const table = element("table", "account", null, [element("tbody", "", null, [...lines, line("Resident (RSS)", account.rss, null, "sum")])]);
  table.querySelectorAll("th").forEach((cell) => { cell.scope = "row"; });
  return element("div", "", null, [table, ...notes]);
}

function seriesChart(series) {
  const lines = [{
    name: "live heap (estimate, band \u00b1 95 %)", className: "heap", points: series.map((r) => [r[0], r[1]]),
    band: series.map((r) => [r[0], Math.max(r[1] - r[2], 0), r[1] + r[2]]),
  }];
  const resident = series.filter((r) => r[3] !== null);
  if (resident.length > 1) lines.push({ name: "resident (RSS)", className: "rss", points: resident.map((r) => [r[0], r[3]]) });
  return timeChart(lines, "Live heap and resident memory over time");
}
