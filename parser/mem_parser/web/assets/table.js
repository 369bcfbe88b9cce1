// A table that sorts by any column, searches as one types, and makes rows only as far as they are looked at.

const PAGE_ROWS = 150;

// columns: { key, label (in English, as in a CSV file), kind: "text" | "number", text(row), value(row), title?, bar?(row), hint?(row), noise?(row), cell?(row), main?, short?, aside?, words?,
// rank?(row): the place of a text among the others; none?: what a file has for a number that is not there }
// The `main` column has the width that the others leave, but a `short` one leaves it to the `words`, which are sentences; `aside` ones show where there is room. On a narrow screen
// every row is a card, headed by its `main` cell.
// zeros(number): what rows of 0 are called that a search does not look for, and that stay hidden while the largest come first.
// shown: how many rows to begin with. kept: what the reader chose in a table of the same name before: { query, sortKey, descending }.
// rowKey(row): what tells rows apart when others come; without it the text of the main column.
// label: how the table is called, where it is on no tab.
// ask(): rows come as the box says, which is `kept.query`; all: how many there are then.
class DataTable {
  constructor(host, columns, rows, { search = null, sort = null, descending = true, name = "table", kept = {}, shown = PAGE_ROWS, zeros = null, rowKey = null, ask = null, all = null, label = "" } = {}) {
    Object.assign(this, { columns, rows, search, name, kept, zeros, rowKey, ask, all });
    this.shown = Math.max(shown, kept.shown ?? 0);
    this.kept.query ??= "";
    this.kept.sortKey ??= sort;
    this.kept.descending ??= descending;
    this.tools = element("div", "table-tools");
    this.frame = element("div", "table-frame");
    this.frame.tabIndex = 0;
    this.table = element("table", "data");
    this.table.id = `${name}-rows`;
    this.head = element("thead");
    this.body = element("tbody");
    this.table.append(this.head, this.body);
    this.frame.append(this.table);
    if (label) nameTable(this.frame, "aria-label", label);
    this.count = element("span", "faint");
    this.count.setAttribute("role", "status");
    this.more = element("button", "move", phrase("Show more"));
    this.more.type = "button";
    this.more.addEventListener("click", () => { this.shown += PAGE_ROWS * 4; this.kept.shown = this.shown; this.fill(); });
    this.parts = [this.tools, this.frame, this.more];
    for (const part of this.parts) part.isTable = true;
    host.append(...this.parts);
    this.addTools();
    this.makeHead();
    this.fill();
    nameTables(host);
  }

  // Shows other rows of the same kind where it is.
  renew(columns, rows, { search = null, shown = PAGE_ROWS, zeros = null, all = null } = {}) {
    Object.assign(this, { columns, rows, search, zeros, all, shown: Math.max(shown, this.kept.shown ?? 0) });
    this.makeHead();
    this.fill();
  }

  addTools() {
    if (this.search || this.ask) {
      this.input = element("input", "search-input");
      Object.assign(this.input, { type: "search", placeholder: phrase("Search these rows"), id: `${this.name}-search`, spellcheck: false });
      this.input.setAttribute("aria-label", phrase("Search these rows"));
      this.input.value = this.kept.query;
      this.input.addEventListener("input", () => { this.kept.query = this.input.value; this.shown = PAGE_ROWS; this.fill(); this.ask?.(); });
      this.tools.append(this.input);
    }
    const save = element("button", "move", phrase("Save as CSV"));
    save.type = "button";
    save.addEventListener("click", () => this.save());
    this.tools.append(this.count, save);
  }

  makeHead() {
    const looks = JSON.stringify(this.columns.map(({ key, label, title }) => [key, label, title]));
    if (looks === this.headLooks) return;
    this.headLooks = looks;
    const row = element("tr");
    for (const column of this.columns) {
      const button = element("button", "sort", phrase(column.label));
      button.type = "button";
      button.addEventListener("click", () => this.sortBy(column.key));
      const cell = element("th", cellClass(column), null, [button]);
      cell.scope = "col";
      cell.dataset.key = column.key;
      if (column.title) cell.title = column.title;
      row.append(cell);
    }
    this.head.replaceChildren(row);
  }

  sortBy(key) {
    const column = this.columns.find((c) => c.key === key);
    if (!column) return;
    this.kept.descending = this.kept.sortKey === key ? !this.kept.descending : column.kind === "number";
    this.kept.sortKey = key;
    this.shown = PAGE_ROWS;
    this.fill();
  }

  chosen() {
    const words = this.kept.query.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.search && words.length
      ? this.rows.filter((row) => { const text = this.search(row).toLowerCase(); return words.every((word) => text.includes(word)); })
      : this.rows.slice();
    const column = this.columns.find((c) => c.key === this.kept.sortKey);
    if (!column) return rows;
    const sign = this.kept.descending ? -1 : 1;
    const compare = column.rank ? (a, b) => column.rank(a) - column.rank(b) : column.kind === "number"
      ? (a, b) => (column.value(a) ?? -Infinity) - (column.value(b) ?? -Infinity)
      : (a, b) => String(column.text(a)).localeCompare(String(column.text(b)));
    return rows.sort((a, b) => sign * compare(a, b));
  }

  fill() {
    const chosen = this.chosen(), rows = this.withoutZeros(chosen), hidden = chosen.length - rows.length;
    this.showRows(rows);
    this.more.hidden = rows.length <= this.shown;
    const all = this.all ?? this.rows.length, numbers = { shown: countText(rows.length), all: countText(all) };
    const count = rows.length === all ? plural("{number} row", "{number} rows", all) : phrase("{shown} of {all} rows", numbers);
    this.count.textContent = hidden ? phrase("{rows}; {hidden}", { rows: count, hidden: this.zeros(hidden) }) : count;
    for (const cell of this.head.querySelectorAll("th")) {
      const sorted = cell.dataset.key === this.kept.sortKey;
      cell.setAttribute("aria-sort", sorted ? (this.kept.descending ? "descending" : "ascending") : "none");
    }
  }

  withoutZeros(rows) {
    const column = this.columns.find((c) => c.key === this.kept.sortKey);
    if (!this.zeros || !this.kept.descending || this.kept.query || column?.kind !== "number") return rows;
    return rows.filter((row) => column.value(row) !== 0);
  }

  // Rows that are there already stay, with new cells where these differ.
  showRows(rows) {
    const there = new Map([...this.body.rows].map((line) => [line.rowKey, line]));
    const met = new Map(), { main } = this;
    const lines = rows.slice(0, this.shown).map((row) => {
      const fresh = this.makeRow(row), key = String(this.rowKey ? this.rowKey(row) : main?.text(row));
      met.set(key, (met.get(key) ?? 0) + 1);
      fresh.rowKey = `${met.get(key)} ${key}`;
      const line = there.get(fresh.rowKey);
      if (line?.cells.length !== fresh.cells.length) return fresh;
      [...fresh.cells].forEach((cell, k) => { if (!line.cells[k].isEqualNode(cell)) line.cells[k].replaceWith(cell); });
      return line;
    });
    putNodes(this.body, lines);
  }

  get main() {
    return this.columns.find((column) => column.main);
  }

  makeRow(row) {
    const line = element("tr");
    for (const column of this.columns) {
      const cell = element("td", cellClass(column));
      if (column.cell) cell.append(column.cell(row));
      else if (column.main) cell.append(...shortened(column.text(row)));
      else if (column.kind === "number") cell.append(...unbroken(column.text(row)));
      else cell.textContent = column.text(row);
      cell.dataset.label = phrase(column.label);
      if (column.hint) cell.title = column.hint(row);
      if (column.noise?.(row)) {
        cell.classList.add("noise");
        cell.title = phrase("inside the noise: the error is as large as the value");
      }
      if (cell.textContent === "") cell.classList.add("empty");
      if (column.bar) {
        const share = Math.max(0, Math.min(1, column.bar(row)));
        cell.classList.add("bar");
        cell.style.setProperty("--share", share.toFixed(4));
      }
      line.append(cell);
    }
    return line;
  }

  save() {
    const quote = (value) => {
      const text = String(value ?? "");
      // A spreadsheet runs cells that begin like a formula.
      return `"${(/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text).replaceAll('"', '""')}"`;
    };
    const lines = [this.columns.map((column) => quote(column.label)).join(",")];
    for (const row of this.chosen()) {
      lines.push(this.columns.map((column) => quote(column.kind === "number" ? column.value(row) ?? column.none : column.text(row))).join(","));
    }
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
    link.download = `${this.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

// Shows a table, or other rows in the one of the same `kept` that the page has already: new content names that by stand-ins.
function showTable(host, columns, rows, options) {
  const { kept } = options, { table } = kept;
  if (!table?.frame.isConnected || host.isConnected) return kept.table = new DataTable(host, columns, rows, options);
  keepFocus(() => table.renew(columns, rows, options));
  host.append(...table.parts.map((part) => Object.assign(element("div"), { standsFor: part })));
  return table;
}

// Tables on a tab are called as the tab is.
function nameTables(host) {
  const label = host.closest("[role=tabpanel]")?.getAttribute("aria-labelledby");
  if (!label) return;
  for (const frame of host.querySelectorAll(".table-frame")) nameTable(frame, "aria-labelledby", label);
}

function nameTable(frame, attribute, name) {
  frame.setAttribute("role", "region");
  for (const named of [frame, frame.firstElementChild]) named.setAttribute(attribute, name);
}

// Puts fresh content where other content of the same kind is. What looks the same stays, and what a stand-in stands for: focus, scroll positions and
// the pointer find it where it was.
function putInPlace(host, fresh) {
  const there = [...host.childNodes];
  keepFocus(() => putNodes(host, [...fresh.childNodes].map((node, k) => node.standsFor ?? renewed(there[k], node))));
  nameTables(host);
}

// A node that shows what a fresh one does: the one that is there, if it may stay. Boxes have no listeners of their own, parts of a table its object.
function renewed(there, fresh) {
  if (!there || there.isTable || fresh.isTable) return fresh;
  if (there.isEqualNode(fresh)) return there;
  const isBox = ["DIV", "SECTION", "UL"].includes(fresh.nodeName) && !fresh.hasAttribute("style");
  if (!isBox || there.nodeName !== fresh.nodeName || there.className !== fresh.className) return fresh;
  for (const { name, value } of fresh.attributes) there.setAttribute(name, value);
  putInPlace(there, fresh);
  return there;
}

// Lets a host have these nodes alone, in their order; those that are in it are not moved without need.
function putNodes(host, nodes) {
  const kept = new Set(nodes);
  for (const node of [...host.childNodes]) if (!kept.has(node)) node.remove();
  nodes.forEach((node, k) => { if (host.childNodes[k] !== node) host.insertBefore(node, host.childNodes[k] ?? null); });
}

// Moves the focus to where it was, if some work took it away.
function keepFocus(work) {
  const focused = document.activeElement;
  work();
  if (!focused || focused === document.activeElement) return;
  (focused.isConnected ? focused : document.getElementById(focused.id))?.focus({ preventScroll: true });
}

function cellClass({ kind, main, short, aside, words }) {
  return [kind === "number" ? "number" : "text", main && "main", short && "short", aside && "aside", words && "words"].filter(Boolean).join(" ");
}

// A number and its margins, each end of which stays on one line where the column is narrow; words do not.
function unbroken(text) {
  if (!/\d/.test(text)) return [text];
  return text.split(/ (?=[\u00b1(+-])/).flatMap((part, k) => [
    ...(k ? [" "] : []), ...part.split(/(?<=\u2013)/).map((end) => element("span", "unbroken", end))]);
}

// A path, whose folders only show where there is room for them.
function pathCell(path) {
  const name = baseName(path);
  return element("span", "path", null, [element("span", "folders", path.slice(0, path.length - name.length)), name]);
}

const LONGEST_SHOWN = 160, SHORT_ENOUGH = 24, TAIL = 12, LONGEST_TAIL = 24;

// A name for a place that may be too narrow for it: cut in the middle, since names of one class begin alike and names
// of one template end alike. A last word, as that of a library, stays whole if it is not long. Whoever shows it puts the
// whole name into a title.
function shortened(text) {
  const name = text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN - 61)}\u2026${text.slice(-60)}` : text;
  if (name.length <= SHORT_ENOUGH) return [name];
  const word = name.length - name.lastIndexOf(" ") - 1, tail = word > LONGEST_TAIL ? TAIL : Math.max(TAIL, word);
  return [element("span", "name-head", name.slice(0, -tail)), element("span", "name-tail", name.slice(-tail))];
}

// "12.30 MiB ± 0.20 MiB" of an amount [value, lower, upper].
function pairText(amount, unit, signed = false) {
  if (!amount) return "";
  return withEnds((signed ? signedText : amountText)(amount[0], unit), ...amount, unit, signed);
}
