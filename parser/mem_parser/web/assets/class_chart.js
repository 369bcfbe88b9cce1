// Memory by class over the steps: a stacked bar for each step. A click, or the arrow keys on the drawing, choose one.

const BARS_APART_FROM = 6, STEPS_FAR = 10, NAMES_HEIGHT = 20;

class ClassChart {
  // choose(moment): of the reader
  constructor(host, choose) {
    this.choose = choose;
    this.lane = element("div", "timeline-lane");
    this.drawing = element("div", "timeline-drawing");
    this.mark = element("div", "class-mark");
    this.plot = element("div", "class-plot", null, [this.drawing, this.mark]);
    this.plot.id = "class-plot";
    this.plot.tabIndex = 0;
    this.hint = element("div", "tooltip");
    this.hint.hidden = true;
    for (const [key, value] of Object.entries({ role: "slider", "aria-label": phrase("Step"), "aria-orientation": "horizontal" })) this.plot.setAttribute(key, value);
    this.plot.addEventListener("pointerdown", (event) => { if (event.button === 0) this.choose(this.stepAt(event)); });
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    for (const name of ["pointerleave", "pointercancel"]) this.plot.addEventListener(name, () => { this.hint.hidden = true; });
    this.plot.addEventListener("keydown", (event) => this.key(event));
    host.append(this.lane, this.plot, this.hint);
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  stepAt(event) {
    const box = this.plot.getBoundingClientRect();
    return Math.min(Math.max(Math.floor((event.clientX - box.left) / box.width * this.pool.size), 0), this.pool.size - 1);
  }

  point(event) {
    // A finger hides what is below it.
    if (event.pointerType === "touch" || !this.pool.size) return;
    const { pool, when } = this;
    const step = this.stepAt(event);
    const lines = pool.classes.map((name, k) => [name, pool.ofClass(k, step, when)]).filter(([, bytes]) => bytes > 0).reverse();
    this.hint.replaceChildren(element("div", "", `${pool.momentText(step, when)}: ${bytesText(pool.total(step, when))}`),
      ...lines.map(([name, bytes]) => element("div", "faint", `${name} ${bytesText(bytes)}`)));
    this.hint.hidden = false;
    const room = innerWidth - this.hint.offsetWidth - 8;
    this.hint.style.left = `${Math.max(Math.min(event.clientX + 14, room), 4)}px`;
    this.hint.style.top = `${Math.max(Math.min(event.clientY + 16, innerHeight - this.hint.offsetHeight - 8), 4)}px`;
  }

  key(event) {
    const { size, peakStep } = this.pool;
    if (!size || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.moment === PEAK ? Math.max(peakStep, 0) : this.moment, far = event.shiftKey ? STEPS_FAR : 1;
    const steps = {
      ArrowLeft: at - far, ArrowDown: at - far, ArrowRight: at + far, ArrowUp: at + far,
      PageDown: at - STEPS_FAR, PageUp: at + STEPS_FAR, Home: 0, End: size - 1,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    this.choose(Math.min(Math.max(steps[event.key], 0), size - 1));
  }

  // moment: the chosen one; when: which moment of each step is drawn
  show(pool, moment, when) {
    const same = this.pool === pool && this.when === when;
    Object.assign(this, { pool, moment, when });
    if (!same) this.draw();
    const step = moment === PEAK ? pool.peakStep : moment;
    this.plot.setAttribute("aria-valuemin", "0");
    this.plot.setAttribute("aria-valuemax", String(Math.max(pool.size - 1, 0)));
    this.plot.setAttribute("aria-valuenow", String(Math.max(step, 0)));
    this.plot.setAttribute("aria-valuetext", `${pool.momentText(moment, when)}: ${bytesText(pool.total(moment, when))}`);
    this.mark.hidden = step < 0;
    Object.assign(this.mark.style, { left: `${100 * step / pool.size}%`, width: `${100 / pool.size}%` });
  }

  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight - NAMES_HEIGHT;
    if (!width || !this.pool) return;
    const { pool, when } = this;
    const totals = pool.totals(when);
    const highest = Math.max(totals.reduce((a, b) => Math.max(a, b), 0), when === "peak" ? pool.total(PEAK, when) : 0, 1);
    const most = 1.08 * highest, one = width / Math.max(pool.size, 1);
    const gap = pool.is_steps && one >= BARS_APART_FROM ? Math.min(one * 0.15, 8) : 0;
    const y = (value) => height - value / most * height;
    const image = shape("svg", { viewBox: `0 0 ${width} ${height + NAMES_HEIGHT}`, class: "timeline-image", "aria-hidden": "true" });
    const lines = [], texts = [];
    for (let step = tickStep(most, 4, true), value = step; value < most; value += step) {
      lines.push(shape("line", { class: "grid", x1: 0, x2: width, y1: y(value), y2: y(value) }));
      if (y(value) > 14) texts.push(shape("text", { class: "tick", x: 4, y: y(value) - 3 }, roundBytesText(value)));
    }
    const base = new Float64Array(pool.size);
    const colours = classColours(pool.classes);
    const parts = pool.classes.map((_, k) => {
      const column = pool.classColumn(k, when);
      let path = "";
      for (let step = 0; step < pool.size; step += 1) {
        if (!(column[step] > 0)) continue;
        const low = y(base[step]), high = y(base[step] += column[step]);
        path += `M${(step * one + gap / 2).toFixed(2)},${low.toFixed(2)}V${high.toFixed(2)}h${(one - gap).toFixed(2)}V${low.toFixed(2)}Z`;
      }
      return shape("path", { class: `class-area class-${colours[k]}`, d: path });
    });
    image.append(...lines, ...parts, ...texts, ...this.names(width, height + NAMES_HEIGHT, one));
    this.drawing.replaceChildren(image);
    this.showPeak();
  }

  // Names of steps below the bars, as many as there is room for.
  names(width, height, one) {
    const { pool } = this;
    const text = (step) => pool.is_steps ? pool.steps[step] : pool.seconds(pool.begins_s[step]);
    let longest = 1;
    for (let step = 0; step < pool.size; step += 1) longest = Math.max(longest, Math.min(text(step).length, 14));
    const every = Math.max(Math.ceil((longest * 7 + 16) / one), 1);
    const found = [];
    for (let step = Math.min(Math.floor(every / 2), pool.size - 1); step >= 0 && step < pool.size; step += every) {
      const name = text(step), at = (step + 0.5) * one;
      if (at < 10 || at > width - 10) continue;
      found.push(shape("text", { class: "tick", x: at, y: height - 5, "text-anchor": "middle" }, name.length > 14 ? `${name.slice(0, 13)}\u2026` : name));
    }
    return found;
  }

  showPeak() {
    const { pool } = this;
    const step = pool.peakStep;
    if (step < 0) { this.lane.replaceChildren(); return; }
    const title = phrase("Peak: {size} at {time} (p)", { size: bytesText(pool.total(PEAK, this.when)), time: pool.seconds(pool.top_s) });
    const button = element("button", "timeline-peak", "\u25bc");
    Object.assign(button, { type: "button", title, id: "class-peak" });
    button.setAttribute("aria-label", title);
    button.style.left = `${100 * (step + 0.5) / pool.size}%`;
    button.addEventListener("click", () => this.choose(PEAK));
    this.lane.replaceChildren(button);
  }
}
