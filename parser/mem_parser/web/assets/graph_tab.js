// The call graph as a picture that zooms by wheel, pinch, keys and buttons. Paper gets all of it.

const READABLE = 0.7;
let graphShown = null;
whenPrinted(() => graphShown?.apply(graphShown.view));

class GraphTab {
  // drawing: the group of its shapes; heading and lines: what it shows, in words
  // kept: { view } of the drawing before, where this one takes its place
  constructor(host, drawing, heading, lines, kept = {}) {
    this.kept = kept;
    graphShown = this;
    this.tools = element("div", "table-tools");
    this.frame = element("div", "call-graph");
    Object.assign(this.frame, { tabIndex: 0, id: "graph-frame" });
    this.frame.setAttribute("role", "img");
    this.frame.setAttribute("aria-label", phrase("Call graph of {heading}; plus and minus zoom, arrow keys move, 0 shows all of it. The tabs Table and Tree have its numbers as text.", { heading }));
    this.svg = shape("svg", { class: "call-graph-svg" });
    this.layer = shape("g", {}, null, [drawing]);
    this.svg.append(this.layer);
    this.frame.append(this.svg);
    const button = (label, id, act) => {
      const made = element("button", "move", label);
      Object.assign(made, { type: "button", id });
      made.addEventListener("click", act);
      return made;
    };
    this.tools.append(button("+", "graph-in", () => this.zoomBy(1.4)), button("\u2212", "graph-out", () => this.zoomBy(1 / 1.4)),
      button(phrase("Fit"), "graph-fit", () => this.fit()), element("span", "faint", phrase("wheel or pinch zooms, dragging moves")));
    host.append(element("h2", "", heading), ...lines.map((line) => element("p", "faint", line)), this.tools, this.frame);
    this.pointers = new Map();
    this.view = { x: 0, y: 0, scale: 1 };
    this.listen();
    if (kept.view) {
      this.fitted = true;
      this.apply(kept.view);
    }
    new ResizeObserver(() => { if (!this.fitted) this.fit(READABLE); }).observe(this.frame);
  }

  // Shows all of the graph, or at this scale at least its top.
  fit(least = 0) {
    const room = this.frame.getBoundingClientRect();
    if (!room.width || !room.height) return;
    const box = this.layer.getBBox();
    if (!box.width || !box.height) return;
    const whole = Math.min(room.width / box.width, room.height / box.height, 2) * 0.97;
    const scale = Math.max(whole, least);
    this.fitted = true;
    const view = { scale, x: (room.width - box.width * scale) / 2 - box.x * scale, y: 4 - box.y * scale };
    this.apply(view);
    // Where it is too wide, the first box, which is the outermost function, comes to the middle.
    const first = box.width * scale > room.width ? this.layer.querySelector(":scope > g > g polygon")?.getBoundingClientRect() : null;
    if (first) this.moveBy(room.left + room.width / 2 - first.left - first.width / 2, 0);
  }

  apply(view) {
    this.view = this.kept.view = view;
    const { x, y, width, height } = this.layer.getBBox();
    if (onPaper) this.svg.setAttribute("viewBox", `${x - 2} ${y - 2} ${width + 4} ${height + 4}`); else this.svg.removeAttribute("viewBox");
    this.layer.setAttribute("transform", onPaper ? "" : `translate(${view.x} ${view.y}) scale(${view.scale})`);
    this.svg.dataset.scale = view.scale.toFixed(4);
  }

  zoomBy(factor, clientX = null, clientY = null) {
    const room = this.frame.getBoundingClientRect();
    const atX = clientX === null ? room.width / 2 : clientX - room.left;
    const atY = clientY === null ? room.height / 2 : clientY - room.top;
    const scale = Math.min(Math.max(this.view.scale * factor, 0.01), 40);
    const grown = scale / this.view.scale;
    this.apply({ scale, x: atX - (atX - this.view.x) * grown, y: atY - (atY - this.view.y) * grown });
  }

  moveBy(dx, dy) {
    this.apply({ ...this.view, x: this.view.x + dx, y: this.view.y + dy });
  }

  listen() {
    this.frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX, event.clientY);
    }, { passive: false });
    this.frame.addEventListener("pointerdown", (event) => {
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
      this.frame.setPointerCapture?.(event.pointerId);
    });
    this.frame.addEventListener("pointermove", (event) => this.dragged(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.frame.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    const keys = {
      "+": () => this.zoomBy(1.3), "=": () => this.zoomBy(1.3), "-": () => this.zoomBy(1 / 1.3), 0: () => this.fit(),
      ArrowLeft: () => this.moveBy(60, 0), ArrowRight: () => this.moveBy(-60, 0),
      ArrowUp: () => this.moveBy(0, 60), ArrowDown: () => this.moveBy(0, -60),
    };
    this.frame.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length) {
      const [fixedX, fixedY] = others[0];
      const was = Math.hypot(before[0] - fixedX, before[1] - fixedY), is = Math.hypot(event.clientX - fixedX, event.clientY - fixedY);
      if (was > 0 && is > 0) this.zoomBy(is / was, fixedX, fixedY);
    } else this.moveBy(event.clientX - before[0], event.clientY - before[1]);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }
}
