// The first tab: the answer before anything else, then how the memory is made up.

const MEASURE_LABELS = {
  space: COUNT_WORDS,
  objects: { inuse: phrase("blocks in use"), alloc: phrase("allocations"), freed: phrase("blocks freed"), peak: phrase("blocks at the peak"), change: phrase("change of blocks in use") },
};

function summaryTab(host, report) {
  const { tables, account, series, facts } = report;
  const { count, unit, words } = report.choice;
  const totals = tables.totals;
  const whole = totals[`${count}.${unit}`][0];
  if (!report.live) host.append(...openingLines(report.opening));
  host.append(keyNumbers(totals, `${count}.${unit}`));
  const grid = element("div", "panels");
  const title = count === "change" ? phrase("Whose memory grew") : ["alloc", "freed"].includes(count) ? phrase("Who allocated it") : phrase("Who holds the memory");
  grid.append(topFunctions(report, title, count, unit, phrase("{what}, charged to the function that called the allocator", { what: words })));
  if (series.length > 1 && !report.profile.times) grid.append(panel(phrase("Over time"), [seriesChart(series)]));
  grid.append(panel(phrase("What the resident memory is made of"), accountRows(account)));
  const bars = (groups, label) => [element("p", "faint", words), groupBars(groups, label, unit, whole, count)];
  grid.append(panel(phrase("By module"), bars(tables.modules[count], (name) => baseName(name) || phrase("unknown"))));
  const domains = Math.max(...Object.values(tables.domains).map((rows) => rows.length));
  if (domains > 1 && tables.domains[count]) grid.append(panel(phrase("By domain"), bars(tables.domains[count], (name) => name)));
  if (tables.sizes[count]) grid.append(panel(phrase("By block size"), [element("p", "faint", words), sizeBars(tables.sizes[count], unit)]));
  if (count !== "alloc" && report.profile.counts.includes("alloc")) {
    grid.append(topFunctions(report, phrase("Who allocates most"), "alloc", unit, unit === "space" ? phrase("bytes allocated in all, freed or not") : phrase("blocks allocated in all, freed or not")));
  }
  if (facts.facts.length) {
    grid.append(panel(phrase("The capture"), [element("dl", "facts", null, facts.facts.map(([label, text]) =>
      element("div", "", null, [element("dt", "", label), element("dd", "", text)])))], "wide"));
  }
  host.append(grid);
}

// What a report opens with; a live page has it above all tabs.
function openingLines(sentences) {
  if (!sentences?.length) return [];
  return [element("ul", "opening", null, sentences.map(({ kind, text }) => element("li", kind.replaceAll(" ", "-"), text)))];
}

// Every total by name; the one that the tabs count comes first.
function keyNumbers(totals, chosen) {
  const order = Object.keys(totals).filter((name) => !/^freed\.|^(resident|huge|swapped)\.objects/.test(name) || name === chosen);
  order.sort((a, b) => (b === chosen) - (a === chosen));
  return element("div", "key-numbers", null, order.map((name) => {
    const [count, unit] = name.split(".");
    const number = element("div", name === chosen ? "key-number chosen" : "key-number", null, [
      element("span", "key-value", (count === "change" ? signedText : amountText)(totals[name][0], unit)),
      element("span", "faint", withEnds("", ...totals[name], unit).trim()),
      element("span", "key-label", MEASURE_LABELS[unit][unit === "space" ? count : ofBlocks(count)])]);
    number.dataset.measure = name;
    return number;
  }));
}

function topFunctions(report, title, count, unit, note) {
  const key = `${count}.${unit}.own`;
  const owners = report.tables.functions.rows.filter((row) => row[key][0] > 0).sort((a, b) => b[key][0] - a[key][0]);
  const rows = owners.slice(0, 10);
  const whole = report.tables.totals[`${count}.${unit}`][0];
  return panel(title, [element("p", "faint", note), barRows(rows.map((row) => ({
    label: row.name, hint: `${row.name}  ${row.file || row.module}`,
    text: `${pairText(row[key], unit, count === "change")}${shareText(count, row[key][0], whole)}`,
    share: row[key][0] / rows[0][key][0],
    act: () => report.searchFlame(row.name),
  }))), ...notListed(owners.length - rows.length)]);
}

function notListed(number) {
  return number > 0 ? [element("p", "faint", phrase("{number} smaller ones are not listed", { number }))] : [];
}

// Of a change there are no shares: its parts may be larger than all of it.
function shareText(count, part, whole) {
  return count === "change" ? "" : ` (${percentText(part, whole)})`;
}

function groupBars(groups, label, unit, whole, count) {
  const amount = (group) => unit === "objects" ? group.objects : group.bytes;
  const sorted = groups.filter((group) => amount(group)[0] > 0).sort((a, b) => amount(b)[0] - amount(a)[0]);
  const shown = sorted.slice(0, 12);
  const rows = shown.map((group) => ({
    label: label(group.name), hint: group.name, share: amount(group)[0] / amount(shown[0])[0],
    text: `${pairText(amount(group), unit, count === "change")}${shareText(count, amount(group)[0], whole)}`,
  }));
  const bars = barRows(rows);
  bars.append(...notListed(sorted.length - shown.length));
  return bars;
}

function sizeBars(sizes, unit) {
  const present = sizes.filter((row) => row.objects[0] > 0);
  const amount = (row) => unit === "objects" ? row.objects[0] : row.bytes[0];
  const most = Math.max(...present.map(amount), 1);
  return barRows(present.map((row) => ({
    label: row.to === 2 ? phrase("0 and 1 B") : phrase("from {size}", { size: roundBytesText(row.from) }),
    text: phrase("{size} in {number}", { size: bytesText(row.bytes[0]), number: countText(row.objects[0]) }),
    share: amount(row) / most,
  })));
}

// The sum that makes the resident memory up, and apart from it where the largest parts of it are.
function accountRows(account) {
  const notes = account.notes.map((note) => element("p", "faint", note));
  if (account.rss === null) return notes;
  const lines = account.rows.map(({ label, bytes, ends }, k) =>
    accountLine(k === 0 ? label : `+ ${label}`, bytes, ends, account.rss));
  const sum = accountLine(phrase("Resident (RSS)"), account.rss, null, account.rss, "sum");
  const parts = [accountTable("account", [...lines, sum], phrase("Resident memory"))];
  if (account.inUse.length) {
    const [resident, rest] = account.inUse;
    parts.push(element("h3", "", phrase("Heap in use")), accountTable("account in-use",
      account.inUse.map(({ label, bytes, ends }) => accountLine(label, bytes, ends, resident.bytes + rest.bytes)), phrase("Heap in use")));
  }
  if (account.places.length) {
    const whole = account.places.reduce((total, { bytes }) => total + bytes, 0);
    const title = phrase("Heap in use and slack together, by place");
    parts.push(element("h3", "", title), accountTable("account places", [
      ...account.places.map(({ label, bytes }, k) => accountLine(k === 0 ? label : `+ ${label}`, bytes, null, whole)),
      accountLine(phrase("heap in use and slack"), whole, null, whole, "sum")], title));
  }
  return [...parts, ...notes];
}

function accountLine(label, value, ends, whole, className = "") {
  return element("tr", className, null, [
    element("th", "", label), element("td", "number", bytesText(value)),
    element("td", "faint", withEnds("", value, ...ends ?? [null, null], "space").trim()),
    element("td", "number faint", percentText(value, whole))]);
}

function accountTable(className, lines, label) {
  const table = element("table", className, null, [element("tbody", "", null, lines)]);
  table.setAttribute("aria-label", label);
  table.querySelectorAll("th").forEach((cell) => { cell.scope = "row"; });
  return table;
}

function seriesChart(series) {
  const lines = [{
    name: phrase("heap in use (estimate, band \u00b1 95 %)"), className: "heap", points: series.map((r) => [r[0], r[1]]),
    band: series.map((r) => [r[0], Math.max(r[1] - r[2], 0), r[1] + r[2]]),
  }];
  const resident = series.filter((r) => r[3] !== null);
  if (resident.length > 1) lines.push({ name: phrase("resident (RSS)"), className: "rss", points: resident.map((r) => [r[0], r[3]]) });
  return timeChart(lines, phrase("Heap in use and resident memory over time"));
}
