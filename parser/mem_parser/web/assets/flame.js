// Drawing one view on a canvas. Only what is at least a fraction of a pixel wide is laid out, and only rows inside the
// scroller are painted, so the cost follows the screen and not the size of the tree.

const ROW_FINE = 19, ROW_COARSE = 26;
const NARROWEST = 0.6;
const LABEL_FROM = 26;
const MOST_PIXELS = 4;
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";

class FlameCanvas {
  // handlers: onPick(node, touch), onZoom(node), onHover(node, event) with node -1 for none
  constructor(host, handlers) {
    this.handlers = handlers;
    this.scroller = element("div", "flame-scroll");
    this.spacer = element("div", "flame-spacer");
    this.canvas = element("canvas", "flame-canvas");
    this.spacer.append(this.canvas);
    this.scroller.append(this.spacer);
    host.append(this.scroller);
    this.view = null;
    this.selected = -1;
    this.matched = null;
    this.rows = [];
    this.labelWidths = new Map();
    this.row = matchMedia("(pointer: coarse)").matches ? ROW_COARSE : ROW_FINE;
    this.listen();
  }

  listen() {
    this.scroller.addEventListener("scroll", () => this.paintSoon(), { passive: true });
    // A pinch makes the page larger, not the pixels of the canvas.
    window.visualViewport?.addEventListener("resize", () => this.paintSoon());
    new ResizeObserver(() => this.resized()).observe(this.scroller);
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") this.handlers.onHover(this.nodeAt(event), event);
    });
    this.canvas.addEventListener("pointerleave", () => this.handlers.onHover(-1, null));
    this.canvas.addEventListener("click", (event) => {
      const node = this.nodeAt(event);
      if (node < 0) return;
      const touch = event.pointerType === "touch" || event.pointerType === "pen";
      this.handlers.onPick(node, touch);
    });
    this.canvas.addEventListener("contextmenu", (event) => {
      const node = this.nodeAt(event);
      if (node >= 0) this.handlers.onMenu?.(node, event);
    });
  }

  // upward: the root at the bottom, as flames are.
  show(view, { zoom, upward, palette, labelOf, colourOf }) {
    const turned = upward !== this.upward;
    Object.assign(this, { view, zoom, upward, palette, labelOf, colourOf });
    this.layout();
    if (turned) this.scroller.scrollTop = upward ? this.spacer.offsetHeight : 0;
    this.paint();
  }

  resized() {
    if (!this.view || this.scroller.clientWidth === this.width && this.scroller.clientHeight === this.height) return;
    this.layout();
    this.paint();
  }

  layout() {
    this.width = this.scroller.clientWidth;
    this.height = this.scroller.clientHeight;
    this.rows = [];
    if (!this.view || this.width === 0) return;
    const path = this.view.path(this.zoom);
    path.forEach((node, depth) => this.place(depth, node, 0, this.width));
    this.layoutBelow(this.zoom, path.length);
    if (onPaper) this.height = this.rows.length * this.row;
    this.spacer.style.height = `${Math.max(this.rows.length * this.row, this.height)}px`;
  }

  layoutBelow(top, depth) {
    const view = this.view;
    const scale = this.width / (view.width[top] || 1);
    const pending = [[top, depth, 0]];
    while (pending.length) {
      const [parent, level, left] = pending.pop();
      const children = view.childrenOf(parent);
      let x = left;
      for (let k = 0; k < children.length; k += 1) {
        const node = children[k];
        const wide = view.width[node] * scale;
        if (wide < NARROWEST) {
          this.placeRest(level, parent, children, k, x, scale);
          break;
        }
        this.place(level, node, x, wide);
        if (view.childStart[node + 1] > view.childStart[node]) pending.push([node, level + 1, x]);
        x += wide;
      }
    }
    for (const row of this.rows) if (row.sorted === false) FlameCanvas.sortRow(row);
  }

  place(level, node, x, wide) {
    const row = this.rows[level] ??= { nodes: [], xs: [], widths: [], sorted: true };
    if (row.xs.length && row.xs[row.xs.length - 1] > x) row.sorted = false;
    row.nodes.push(node);
    row.xs.push(x);
    row.widths.push(wide);
  }

  // The children from `from` on are each too narrow to see: one grey strip, node -2 - parent.
  placeRest(level, parent, children, from, x, scale) {
    let wide = 0;
    for (let k = from; k < children.length; k += 1) wide += this.view.width[children[k]] * scale;
    if (wide >= NARROWEST) this.place(level, -2 - parent, x, wide);
  }

  static sortRow(row) {
    const order = row.xs.map((_, k) => k).sort((a, b) => row.xs[a] - row.xs[b]);
    for (const key of ["nodes", "xs", "widths"]) row[key] = order.map((k) => row[key][k]);
    row.sorted = true;
  }

  rowTop(level) {
    const used = this.rows.length * this.row;
    const space = Math.max(used, this.height);
    return this.upward ? space - (level + 1) * this.row : level * this.row;
  }

  paintSoon() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => { this.queued = false; this.paint(); });
  }

  paint() {
    if (!this.view || !this.width) return;
    const ratio = Math.min((window.devicePixelRatio || 1) * (window.visualViewport?.scale ?? 1), MOST_PIXELS);
    const canvas = this.canvas;
    if (canvas.width !== Math.round(this.width * ratio) || canvas.height !== Math.round(this.height * ratio)) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(this.height * ratio);
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${this.height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = FONT;
    pen.textBaseline = "middle";
    const scroll = onPaper ? 0 : this.scroller.scrollTop;
    for (let level = 0; level < this.rows.length; level += 1) {
      const y = this.rowTop(level) - scroll;
      if (y > -this.row && y < this.height) this.paintRow(pen, this.rows[level], y, level);
    }
    canvas.dataset.painted = String(this.rows.reduce((sum, row) => sum + row.nodes.length, 0));
  }

  paintRow(pen, row, y, level) {
    const above = level < this.view.path(this.zoom).length - 1;
    for (let k = 0; k < row.nodes.length; k += 1) {
      const node = row.nodes[k], x = row.xs[k], wide = row.widths[k];
      const gap = wide > 3 ? 1 : 0;
      const hit = node >= 0 && this.matched !== null && this.matched[this.view.name[node]] === 1;
      pen.globalAlpha = above || this.matched !== null && !hit ? 0.45 : 1;
      pen.fillStyle = node < 0 ? this.palette.rest : hit ? this.palette.match : this.colourOf(node);
      pen.fillRect(x, y, Math.max(wide - gap, 0.5), this.row - 1);
      if (node < 0) continue;
      if (node === this.selected) this.outline(pen, x, y, wide);
      if (wide >= LABEL_FROM) this.label(pen, node, x, y, wide);
    }
    pen.globalAlpha = 1;
  }

  outline(pen, x, y, wide) {
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = this.palette.outline;
    pen.strokeRect(x + 1, y + 1, Math.max(wide - 3, 1), this.row - 3);
  }

  widthOf(pen, text) {
    let width = this.labelWidths.get(text);
    if (width === undefined) this.labelWidths.set(text, width = pen.measureText(text).width);
    return width;
  }

  // A name with too little room goes without its namespaces before it is cut.
  label(pen, node, x, y, wide) {
    const whole = this.labelOf(node), room = wide - 9;
    const text = this.widthOf(pen, whole) <= room ? whole : whole.replace(/^([+\u2212] )?[\w:]*::(?=\w+$)/, "$1");
    const needed = this.widthOf(pen, text);
    const kept = needed <= room ? text : `${text.slice(0, Math.max(Math.floor(text.length * (room - 12) / needed), 1))}\u2026`;
    pen.globalAlpha = Math.max(pen.globalAlpha, 0.75);
    pen.fillStyle = this.palette.text;
    pen.fillText(kept, x + 4, y + this.row / 2);
  }

  // The node under the pointer; -1: none, below that a strip of narrow frames.
  nodeAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const y = event.clientY - box.top + this.scroller.scrollTop, x = event.clientX - box.left;
    const space = Math.max(this.rows.length * this.row, this.height);
    const level = Math.floor((this.upward ? space - y : y) / this.row);
    const row = this.rows[level];
    if (!row) return -1;
    let low = 0, high = row.xs.length - 1;
    while (low < high) {
      const middle = low + high + 1 >> 1;
      if (row.xs[middle] <= x) low = middle; else high = middle - 1;
    }
    return x >= row.xs[low] && x <= row.xs[low] + row.widths[low] ? row.nodes[low] : -1;
  }

  // Where a node is drawn, relative to the canvas; null where it is not.
  boxOf(node) {
    for (let level = 0; level < this.rows.length; level += 1) {
      const k = this.rows[level].nodes.indexOf(node);
      if (k < 0) continue;
      const { xs, widths } = this.rows[level];
      return { x: xs[k], width: widths[k], y: this.rowTop(level) - this.scroller.scrollTop, height: this.row, level };
    }
    return null;
  }

  select(node) {
    this.selected = node;
    const box = node >= 0 ? this.boxOf(node) : null;
    if (box && (box.y < 0 || box.y + box.height > this.height)) this.scroller.scrollTop += box.y - this.height / 2;
    this.paint();
  }
}
