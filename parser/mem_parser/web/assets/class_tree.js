// The classes of one moment as rows that open to their owners, and these to the operators that allocated.

const OWNERS_SHOWN = 60;

class ClassTree {
  constructor(host) {
    this.open = new Set();
    this.more = new Set();
    this.body = element("tbody");
    const heads = [[phrase("Class and owner"), ""], [phrase("Bytes"), "number"], [phrase("Share"), "number"], [phrase("Blocks"), "number"], [phrase("Change"), "number"]];
    const row = element("tr", "", null, heads.map(([text, className]) => {
      const cell = element("th", className, text);
      cell.scope = "col";
      return cell;
    }));
    row.children[2].title = phrase("Of all that the pool had in use");
    row.lastChild.title = phrase("Since the step before");
    const table = element("table", "class-tree", null, [element("thead", "", null, [row]), this.body]);
    table.id = "class-tree";
    table.setAttribute("role", "treegrid");
    table.setAttribute("aria-label", phrase("Classes and owners"));
    this.body.addEventListener("keydown", (event) => this.key(event));
    host.append(table);
  }

  show(pool, moment, when) {
    if (this.pool !== pool) { this.open.clear(); this.more.clear(); }
    Object.assign(this, { pool, moment, when });
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.total = pool.total(moment, when);
    this.colours = classColours(pool.classes);
    const rows = [...pool.tree.flatMap((node) => this.rows(node, 1)), this.sumRow()];
    this.body.replaceChildren(...rows);
    this.focus(rows.find((row) => row.dataset.key === (focused ?? this.last)) ?? rows[0], focused !== null);
  }

  // A row and, where it is open, those of its parts, the largest first.
  rows(node, level) {
    const { pool, moment, when } = this;
    const rows = [this.row(node, level)];
    if (!this.open.has(node.key)) return rows;
    const sorted = node.parts.map((part) => [part, pool.of(part.members, moment, when)]).sort((a, b) => b[1] - a[1]);
    const shown = this.more.has(node.key) ? sorted : sorted.slice(0, OWNERS_SHOWN);
    for (const [part] of shown) rows.push(...this.rows(part, level + 1));
    if (shown.length < sorted.length) rows.push(this.moreRow(node, sorted.length - shown.length));
    return rows;
  }

  moreRow(node, count) {
    const button = element("button", "move", phrase("{number} more", { number: countText(count) }));
    button.type = "button";
    button.addEventListener("click", () => { this.more.add(node.key); this.show(this.pool, this.moment, this.when); });
    const cell = element("td", "", null, [button]);
    cell.colSpan = 5;
    return element("tr", "", null, [cell]);
  }

  row(node, level) {
    const opens = node.parts.length > 0, isOpen = this.open.has(node.key);
    const mark = opens ? [element("span", "tree-mark", isOpen ? "\u25be" : "\u25b8")] : [];
    const swatch = level === 1 ? [element("span", `class-swatch class-${this.colours[node.number]}`)] : [];
    const title = element("td", `class-name level-${level}${opens ? "" : " leaf"}`, null, [...mark, ...swatch, element("span", node.name ? "" : "faint", node.name || node.missing)]);
    const line = this.line(node.key, title, node.members);
    if (level === 1) line.classList.add("class-row");
    line.setAttribute("aria-level", String(level));
    if (opens) {
      line.classList.add("opens");
      line.setAttribute("aria-expanded", String(isOpen));
      line.addEventListener("click", () => { this.last = node.key; this.toggle(node.key); });
    }
    return line;
  }

  sumRow() {
    const line = this.line("total", element("td", "class-name level-1 leaf", phrase("Total")), this.pool.owners.map((_, k) => k));
    line.classList.add("sum");
    line.setAttribute("aria-level", "1");
    return line;
  }

  // title: the cell with the name; members: whose numbers are added up in the others
  line(key, title, members) {
    const { pool, moment, when, total } = this;
    const bytes = pool.of(members, moment, when);
    const change = moment > 0 ? bytes - pool.of(members, moment - 1, when) : null;
    const bar = element("span", "class-bar");
    bar.style.width = `${(100 * (total > 0 ? bytes / total : 0)).toFixed(2)}%`;
    const cells = [title, element("td", "number", bytesText(bytes)), element("td", "number share", null, [bar, element("span", "", percentText(bytes, total))]),
      element("td", "number", countText(pool.of(members, moment, when, "blocks"))),
      element("td", "number", change === null ? "" : change === 0 ? "0 B" : signedText(change, "space"))];
    cells[1].title = phrase("{number} bytes", { number: bytes.toLocaleString("en-US") });
    cells[3].dataset.label = phrase("blocks");
    cells[4].dataset.label = phrase("change");
    if (change === null) cells[4].classList.add("empty");
    for (const cell of cells) cell.setAttribute("role", "gridcell");
    const made = element("tr", "", null, cells);
    made.dataset.key = key;
    made.tabIndex = -1;
    made.setAttribute("role", "row");
    return made;
  }

  toggle(key) {
    if (this.open.has(key)) this.open.delete(key);
    else this.open.add(key);
    this.show(this.pool, this.moment, this.when);
  }

  focus(line, really = true) {
    if (!line) return;
    for (const other of this.body.querySelectorAll("tr[tabindex='0']")) other.tabIndex = -1;
    line.tabIndex = 0;
    this.last = line.dataset.key;
    if (really) line.focus();
  }

  key(event) {
    const line = event.target.closest("tr");
    if (!line || event.target !== line || event.ctrlKey || event.metaKey || event.altKey) return;
    const lines = [...this.body.querySelectorAll("tr[tabindex]")], at = lines.indexOf(line);
    const opens = line.hasAttribute("aria-expanded"), isOpen = line.getAttribute("aria-expanded") === "true";
    const level = Number(line.getAttribute("aria-level"));
    const toggle = () => { if (opens) this.toggle(line.dataset.key); };
    const steps = {
      ArrowDown: () => this.focus(lines[at + 1]), ArrowUp: () => this.focus(lines[at - 1]),
      ArrowRight: () => opens && !isOpen ? toggle() : this.focus(lines[at + 1]),
      ArrowLeft: () => isOpen ? toggle() : this.focus(lines.slice(0, at).reverse().find((other) => Number(other.getAttribute("aria-level")) < level)),
      Home: () => this.focus(lines[0]), End: () => this.focus(lines[lines.length - 1]), Enter: toggle, " ": toggle,
    };
    if (!steps[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    steps[event.key]();
  }
}
