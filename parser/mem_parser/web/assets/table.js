// A table that sorts by any column, searches as one types, and makes rows only as far as they are looked at.

const PAGE_ROWS = 150;

// columns: { key, label, kind: "text" | "number", text(row), value(row), title?, bar?(row), hint?(row), noise?(row), cell?(row), main? }
// On a narrow screen every row is a card, headed by its `main` cell.
class DataTable {
  constructor(host, columns, rows, { search = null, sort = null, descending = true, name = "table", onSort = null } = {}) {
    Object.assign(this, { columns, rows, search, sortKey: sort, descending, query: "", shown: PAGE_ROWS, name, onSort });
    this.tools = element("div", "table-tools");
    this.frame = element("div", "table-frame");
    this.frame.tabIndex = 0;
    this.table = element("table", "data");
    this.table.id = `${name}-rows`;
    this.head = element("thead");
    this.body = element("tbody");
    this.table.append(this.head, this.body);
    this.frame.append(this.table);
    this.count = element("span", "faint");
    this.more = element("button", "move", "Show more");
    this.more.type = "button";
    this.more.addEventListener("click", () => { this.shown += PAGE_ROWS * 4; this.fill(); });
    host.append(this.tools, this.frame, this.more);
    this.addTools();
    this.makeHead();
    this.fill();
  }

  addTools() {
    if (this.search) {
      this.input = element("input", "search-input");
      Object.assign(this.input, { type: "search", placeholder: "Search these rows", id: `${this.name}-search`, spellcheck: false });
      this.input.setAttribute("aria-label", "Search these rows");
      this.input.addEventListener("input", () => { this.query = this.input.value; this.shown = PAGE_ROWS; this.fill(); });
      this.tools.append(this.input);
    }
    const save = element("button", "move", "Save as CSV");
    save.type = "button";
    save.addEventListener("click", () => this.save());
    this.tools.append(this.count, save);
  }

  makeHead() {
    const row = element("tr");
    for (const column of this.columns) {
      const button = element("button", "sort", column.label);
      button.type = "button";
      button.addEventListener("click", () => this.sortBy(column.key));
      const cell = element("th", column.kind === "number" ? "number" : "", null, [button]);
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
    this.descending = this.sortKey === key ? !this.descending : column.kind === "number";
    this.sortKey = key;
    this.shown = PAGE_ROWS;
    this.fill();
    this.onSort?.(key, this.descending);
  }

  chosen() {
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.search && words.length
      ? this.rows.filter((row) => { const text = this.search(row).toLowerCase(); return words.every((word) => text.includes(word)); })
      : this.rows.slice();
    const column = this.columns.find((c) => c.key === this.sortKey);
    if (!column) return rows;
    const sign = this.descending ? -1 : 1;
    const compare = column.kind === "number"
      ? (a, b) => (column.value(a) ?? -Infinity) - (column.value(b) ?? -Infinity)
      : (a, b) => String(column.text(a)).localeCompare(String(column.text(b)));
    return rows.sort((a, b) => sign * compare(a, b));
  }

  fill() {
    const rows = this.chosen();
    this.body.replaceChildren(...rows.slice(0, this.shown).map((row) => this.makeRow(row)));
    this.more.hidden = rows.length <= this.shown;
    this.count.textContent = rows.length === this.rows.length ? `${countText(rows.length)} rows` : `${countText(rows.length)} of ${countText(this.rows.length)} rows`;
    for (const cell of this.head.querySelectorAll("th")) {
      const sorted = cell.dataset.key === this.sortKey;
      cell.setAttribute("aria-sort", sorted ? (this.descending ? "descending" : "ascending") : "none");
    }
  }

  makeRow(row) {
    const line = element("tr");
    for (const column of this.columns) {
      const cell = element("td", column.kind === "number" ? "number" : "text");
      if (column.cell) cell.append(column.cell(row));
      else cell.textContent = column.text(row);
      cell.dataset.label = column.label;
      if (column.hint) cell.title = column.hint(row);
      if (column.noise?.(row)) {
        cell.classList.add("noise");
        cell.title = "inside the noise: the error is as large as the value";
      }
      if (column.main) cell.classList.add("main");
      if (!column.cell && cell.textContent === "") cell.classList.add("empty");
      if (column.bar) {
        const share = Math.max(0, Math.min(1, column.bar(row)));
        cell.classList.add("bar");
        cell.style.setProperty("--share", `${(100 * share).toFixed(2)}%`);
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
      lines.push(this.columns.map((column) => quote(column.kind === "number" ? column.value(row) : column.text(row))).join(","));
    }
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
    link.download = `${this.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

// "12.3 MiB ± 0.20" of an amount [value, lower, upper]; see mem_parser/web/tables.py.
function pairText(amount, unit) {
  if (!amount) return "";
  return withEnds(amountText(amount[0], unit), ...amount, unit);
}
