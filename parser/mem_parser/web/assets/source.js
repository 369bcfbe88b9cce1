// The source lines of a function with what they allocated, as `mem_parser list` shows them, for what the page shows now.

const MOST_LINES = 60;

// The texts that the page holds; block: { files: { file: [[first line, texts], ...] }, refused: { file: why } } or null for none at all.
class SourceText {
  constructor(block) {
    this.there = block !== null;
    this.refused = new Map(Object.entries(block?.refused ?? {}));
    this.files = new Map(Object.entries(block?.files ?? {}).map(([file, parts]) =>
      [file, new Map(parts.flatMap(([first, texts]) => texts.map((text, k) => [first + k, text])))]));
  }

  line(file, line) {
    return this.files.get(file)?.get(line);
  }
}

// [{ file, lines: [{ line, flat, cum }] }] of the function called `name` (a number), the heaviest file first; flat and
// cum are { value, variance, samples }.
function functionLines(profile, values, name) {
  const own = profile.measure({ ...values, diff: false });
  const charged = chargedNodes(profile, values);
  const names = profile.styles[styleKey({ lines: false, templates: values.templates })];
  const sums = ["value", "variance", "samples"].map((part) => {
    const flat = new Float64Array(profile.size);
    for (let node = 0; node < profile.size; node += 1) flat[charged[node]] += own[part][node];
    const cum = flat.slice();
    for (let node = profile.size - 1; node > 0; node -= 1) cum[profile.parent[node]] += cum[node];
    return { part, flat, cum };
  });
  const same = (node, other) => names[other] === name && profile.line[other] === profile.line[node] && profile.lineFile[other] === profile.lineFile[node];
  const files = new Map();
  for (let node = 1; node < profile.size; node += 1) {
    if (names[node] !== name || !(sums[2].cum[node] > 0)) continue;
    const file = profile.files[profile.lineFile[node]], line = profile.line[node];
    if (!files.has(file)) files.set(file, new Map());
    const lines = files.get(file);
    if (!lines.has(line)) lines.set(line, { line, flat: { value: 0, variance: 0, samples: 0 }, cum: { value: 0, variance: 0, samples: 0 } });
    let above = profile.parent[node];
    while (above > 0 && !same(node, above)) above = profile.parent[above];
    for (const { part, flat, cum } of sums) {
      lines.get(line).flat[part] += flat[node];
      if (above <= 0) lines.get(line).cum[part] += cum[node];
    }
  }
  const heaviest = (lines) => Math.max(...lines.map((line) => line.cum.value));
  return [...files].map(([file, lines]) => ({ file, lines: [...lines.values()] })).sort((a, b) => heaviest(b.lines) - heaviest(a.lines));
}

// The lines to show: those that allocated, the heaviest if they are many, and the text around them; null is a gap.
function shownLines(source, file, lines) {
  const heavy = lines.slice().sort((a, b) => b.cum.value - a.cum.value).slice(0, MOST_LINES);
  const rows = new Map(heavy.map((line) => [line.line, line]));
  for (const { line } of heavy) {
    for (let number = line - 2; number <= line + 2; number += 1) {
      if (!rows.has(number) && source.line(file, number) !== undefined) rows.set(number, { line: number });
    }
  }
  const found = [...rows.values()].sort((a, b) => a.line - b.line);
  return found.flatMap((row, k) => k > 0 && row.line !== found[k - 1].line + 1 ? [null, row] : [row]);
}

// The listing of one file of a function as a table.
function listingTable(explorer, { file, lines }) {
  const { source, unit } = explorer;
  const amount = (sum) => sum?.value > 0 ? estimateText(sum.value, sum.variance, sum.samples, unit, explorer) : "";
  const body = shownLines(source, file, lines).map((row) => {
    if (!row) return element("tr", "source-gap", null, [element("td", "number", "\u22ee"), element("td"), element("td"), element("td")]);
    const text = source.line(file, row.line);
    return element("tr", row.cum ? "source-heavy" : "", null, [
      element("td", "number", amount(row.flat)), element("td", "number", amount(row.cum)),
      element("td", "number faint", row.line > 0 ? String(row.line) : "?"), element("td", "source-text", text ?? "")]);
  });
  const head = element("tr", "", null, [phrase("own"), phrase("total"), phrase("line"), ""].map((label) =>
    label ? Object.assign(element("th", "number", label), { scope: "col" }) : element("td")));
  const table = element("table", "source-lines", null, [element("thead", "", null, [head]), element("tbody", "", null, body)]);
  table.setAttribute("aria-label", file || phrase("source lines"));
  return table;
}

// Title and listings of a function, number `name` in the table of names.
function listingParts(explorer, name) {
  const { profile, source } = explorer;
  const values = explorer.state.values;
  const plain = profile.plainName[name];
  const files = functionLines(profile, values, plain);
  const title = element("p", "source-title", null, [element("strong", "", profile.names[plain]), element("span", "faint", `  ${phrase("{what}, by line", { what: explorer.countWords })}`)]);
  const parts = files.flatMap((one) => [element("p", "faint source-file", one.file || phrase("no source file is known")), listingTable(explorer, one)]);
  const texts = files.some(({ file, lines }) => lines.some(({ line }) => source.line(file, line) !== undefined));
  if (!texts) parts.push(element("p", "faint", files.map(({ file }) => source.refused.get(file)).find(Boolean) || phrase("the page has no text of these lines: it holds those with 0.5 % of the memory or more, of files that were there")));
  return [title, ...parts];
}

// Below the details of the flame graph, as long as the reader wants it.
class SourcePane {
  constructor(host) {
    this.host = host;
    this.box = element("div", "source-pane");
    this.box.id = "source-pane";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "region");
    this.box.setAttribute("aria-label", phrase("Source lines"));
    host.append(this.box);
  }

  show(explorer, name) {
    this.box.hidden = !explorer.state.get("source") || !explorer.source.there;
    this.host.classList.toggle("with-source", !this.box.hidden);
    if (this.box.hidden) return;
    this.box.replaceChildren(...name ? listingParts(explorer, name) : [element("p", "faint", phrase("Select a frame to see its source lines."))]);
  }
}

// The same over the page, for rows of tables and of the tree.
class SourceDialog {
  constructor() {
    this.dialog = element("dialog", "source-dialog");
    this.dialog.setAttribute("aria-label", phrase("Source lines"));
    this.body = element("div", "source-body");
    this.body.tabIndex = 0;
    const close = element("button", "move", phrase("Close"));
    close.type = "button";
    close.addEventListener("click", () => this.dialog.close());
    this.dialog.append(this.body, close);
    document.body.append(this.dialog);
  }

  show(explorer, name) {
    this.body.replaceChildren(...listingParts(explorer, name));
    this.dialog.showModal();
  }
}

// A place (a text or an element) that opens the source lines of its function; only itself where the page has no sources.
function placeLink(explorer, place, name) {
  if (!explorer.source.there || !place || !name) return element("span", "", null, [place]);
  const button = element("button", "link place-link", null, [place]);
  Object.assign(button, { type: "button", title: phrase("Show the source lines") });
  button.addEventListener("click", (event) => { event.stopPropagation(); explorer.showSource(name); });
  button.addEventListener("keydown", (event) => event.stopPropagation());
  return button;
}
