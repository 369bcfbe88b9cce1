// A table of very many rows: it has the rows that show and some around them, and fillers as high as all others. Rows are one
// line each. On a narrow screen, where rows are cards of any height, it is the table that shows more when asked.

const ROWS_AROUND = 30;

class LongTable extends DataTable {
  fill() {
    this.narrow ??= this.watchWidth();
    this.table.classList.toggle("long", !this.narrow.matches);
    this.table.setAttribute("aria-rowcount", String(this.rows.length + 1));
    super.fill();
    if (this.narrow.matches) return;
    this.more.hidden = true;
    this.frame.scrollTop = 0;
    this.drawn = null;
    this.draw();
  }

  watchWidth() {
    const narrow = matchMedia("(max-width: 640px)");
    narrow.addEventListener("change", () => this.fill());
    this.frame.addEventListener("scroll", () => { if (!narrow.matches) this.draw(); }, { passive: true });
    new ResizeObserver(() => { if (!narrow.matches) this.draw(); }).observe(this.frame);
    return narrow;
  }

  showRows(rows) {
    this.found = rows;
    if (this.narrow.matches) super.showRows(rows);
  }

  draw() {
    const rows = this.found;
    this.height ??= this.measure(rows);
    const { height } = this;
    const room = Math.max(this.frame.clientHeight, innerHeight);
    const first = Math.max(Math.floor(this.frame.scrollTop / height) - ROWS_AROUND, 0);
    const last = Math.min(Math.ceil((this.frame.scrollTop + room) / height) + ROWS_AROUND, rows.length);
    if (this.drawn && this.covers(rows.length)) return;
    this.drawn = [first, last];
    const lines = rows.slice(first, last).map((row, k) => {
      const line = this.makeRow(row);
      line.setAttribute("aria-rowindex", String(first + k + 2));
      return line;
    });
    this.body.replaceChildren(this.filler(first * height), ...lines, this.filler((rows.length - last) * height));
  }

  // Whether all that shows is there.
  covers(count) {
    const { height, frame } = this;
    const [first, last] = this.drawn;
    return first * height <= frame.scrollTop && (last === count || last * height >= frame.scrollTop + frame.clientHeight);
  }

  measure(rows) {
    if (!rows.length) return 1;
    const line = this.makeRow(rows[0]);
    this.body.replaceChildren(line);
    return line.getBoundingClientRect().height || 26;
  }

  filler(height) {
    const cell = element("td");
    cell.colSpan = this.columns.length;
    cell.style.height = `${height}px`;
    const line = element("tr", "filler", null, [cell]);
    line.setAttribute("aria-hidden", "true");
    line.hidden = height <= 0;
    return line;
  }
}
