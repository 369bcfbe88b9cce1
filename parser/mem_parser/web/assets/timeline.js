// The line of a log's time: live bytes, RSS, marks and what is not known, with two handles that choose a window.
// Handles stop at the moments of which the page knows what was in use.

const TIMELINE_FAR = 10;
const MARK_ROOM = 74;
const RSS_APART = 5;

class Timeline {
  // set(changes): of `from` and `to`, the numbers of moments; done(): the handles rest.
  constructor(times, state, set, done) {
    Object.assign(this, { times, state, set, done, wanted: null, dragged: null });
    this.text = element("output", "timeline-text");
    this.whole = element("button", "move", phrase("Whole time"));
    Object.assign(this.whole, { type: "button", id: "timeline-whole", title: phrase("Show the whole time (e, or double click)") });
    this.whole.addEventListener("click", () => this.everything());
    this.legend = element("span", "timeline-legend faint");
    this.lane = element("div", "timeline-lane");
    this.drawing = element("div", "timeline-drawing");
    this.before = element("div", "timeline-out");
    this.after = element("div", "timeline-out");
    this.handles = { from: this.handle("from", phrase("Window begins")), to: this.handle("to", phrase("Window ends")) };
    this.plot = element("div", "timeline-plot", null, [this.drawing, this.before, this.after, this.handles.from, this.handles.to]);
    this.host = element("section", "timeline", null, [
      element("div", "timeline-head", null, [this.text, this.whole, this.legend]), this.lane, this.plot]);
    this.host.setAttribute("aria-label", phrase("Memory in use over time"));
    this.plot.addEventListener("pointerdown", (event) => this.press(event));
    this.plot.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) this.plot.addEventListener(name, (event) => this.release(event));
    this.plot.addEventListener("dblclick", () => this.everything());
    new ResizeObserver(() => this.draw()).observe(this.plot);
    new Keys({ e: () => this.everything() }, () => true);
  }

  handle(name, label) {
    const handle = element("div", `timeline-handle ${name}`);
    handle.id = `timeline-${name}`;
    handle.tabIndex = 0;
    for (const [key, value] of Object.entries({ role: "slider", "aria-label": label, "aria-orientation": "horizontal" })) handle.setAttribute(key, value);
    handle.addEventListener("keydown", (event) => this.key(event, name));
    return handle;
  }

  get window() {
    return this.times.window(this.state.values);
  }

  get shownDomain() {
    return Math.max(this.state.get("domain"), 0);
  }

  everything() {
    this.put({ from: 0, to: this.times.last });
    this.done();
  }

  // A handle stops at the other one.
  moveTo(name, moment) {
    const { from, to } = this.window;
    const at = Math.min(Math.max(moment, name === "to" ? from : 0), name === "from" ? to : this.times.last);
    this.put({ from, to, [name]: at });
  }

  put(changes) {
    const { from, to } = this.window;
    if (changes.from !== from || changes.to !== to) this.set(changes);
  }

  key(event, name) {
    const far = event.shiftKey ? TIMELINE_FAR : 1, at = this.window[name];
    const steps = {
      ArrowLeft: at - far, ArrowDown: at - far, ArrowRight: at + far, ArrowUp: at + far,
      PageDown: at - TIMELINE_FAR, PageUp: at + TIMELINE_FAR, Home: 0, End: this.times.last,
    };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.moveTo(name, steps[event.key]);
    this.done();
  }

  // A moment of interest: the window ends there, and begins before it.
  goTo(moment) {
    const { from } = this.window;
    this.put({ from: from < moment ? from : 0, to: moment });
    this.done();
  }

  secondsAt(event) {
    const box = this.plot.getBoundingClientRect();
    const { moments, last } = this.times;
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return moments[0] + share * (moments[last] - moments[0]);
  }

  press(event) {
    if (event.button !== 0) return;
    const { from, to } = this.window;
    const moment = this.times.nearest(this.secondsAt(event));
    const { handles } = this;
    let name = Object.keys(handles).find((key) => handles[key] === event.target);
    // Where the handles are at one place, the way of the pointer tells which is meant.
    if (name && from === to) name = from === this.times.last ? "from" : from === 0 ? "to" : null;
    else name ??= Math.abs(this.times.moments[moment] - this.times.moments[from]) < Math.abs(this.times.moments[moment] - this.times.moments[to]) ? "from" : "to";
    this.dragged = { name, start: from };
    this.plot.setPointerCapture?.(event.pointerId);
    (name ? handles[name] : event.target).focus?.();
    event.preventDefault();
    this.want(moment);
  }

  move(event) {
    if (this.dragged) this.want(this.times.nearest(this.secondsAt(event)));
  }

  // One picture for each frame, however often the pointer moves.
  want(moment) {
    if (this.wanted === null) requestAnimationFrame(() => this.follow());
    this.wanted = moment;
  }

  follow() {
    const moment = this.wanted;
    this.wanted = null;
    if (!this.dragged || moment === null) return;
    if (!this.dragged.name && moment !== this.dragged.start) this.dragged.name = moment < this.dragged.start ? "from" : "to";
    if (this.dragged.name) this.moveTo(this.dragged.name, moment);
  }

  release() {
    if (!this.dragged) return;
    if (this.wanted !== null) this.follow();
    this.dragged = null;
    this.done();
  }

  // What moves with the handles. scope: what does not, on the part of the page that is shown.
  refresh(scope = "") {
    const { times } = this;
    const { from, to } = this.window;
    const left = this.share(times.moments[from]), right = this.share(times.moments[to]);
    this.handles.from.style.left = `${left}%`;
    this.handles.to.style.left = `${right}%`;
    this.before.style.width = `${left}%`;
    Object.assign(this.after.style, { left: `${right}%`, width: `${100 - right}%` });
    for (const [name, moment] of [["from", from], ["to", to]]) {
      const handle = this.handles[name];
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", String(times.last));
      handle.setAttribute("aria-valuenow", String(moment));
      const text = `${times.secondsText(moment)}: ${bytesText(times.head.live_bytes[this.shownDomain][moment])}`;
      handle.setAttribute("aria-valuetext", text);
      handle.title = text;
    }
    const whole = times.isWhole(this.state.values), text = times.windowText(this.state.values);
    this.text.textContent = whole ? phrase("Whole time: {span}", { span: text }) : scope ? `${text}; ${scope}` : text;
    this.whole.disabled = whole;
    if (this.drawn !== this.shownDomain) this.draw();
  }

  share(seconds) {
    const { moments, last } = this.times;
    const length = moments[last] - moments[0];
    return length > 0 ? Math.min(Math.max(100 * (seconds - moments[0]) / length, 0), 100) : 0;
  }

  // What stays until the width changes, or another domain is shown.
  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (!width) return;
    this.drawn = this.shownDomain;
    const { head } = this.times;
    const curves = head.max_bytes, shown = curves[this.drawn];
    const rss = this.drawn === 0 ? head.rss : [];
    const highest = Math.max(...curves.map((curve) => curve.reduce((a, b) => Math.max(a, b ?? 0), 0)), 1);
    const resident = rss.reduce((a, b) => Math.max(a, b[1]), 0);
    // Little live memory would be a flat line below a large program.
    const apart = resident > RSS_APART * highest;
    const most = 1.08 * (apart ? highest : Math.max(highest, resident));
    const x = (seconds) => this.share(seconds) * width / 100;
    const y = (value) => height - value / most * height;
    const image = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "timeline-image", "aria-hidden": "true" });
    image.append(Timeline.hatching());
    const ticks = this.ticks(width, height, most, x, y);
    image.append(...ticks.lines, shape("path", { class: "timeline-area", d: this.areaPath(shown, x, y, height) }));
    curves.forEach((curve, k) => {
      if (k !== this.drawn) image.append(shape("path", { class: `timeline-other other-${k % 4}`, d: this.linePath(curve, x, y) }));
    });
    if (rss.length > 1) image.append(shape("polyline", { class: "timeline-rss", points: rss.map(([t, value]) => `${x(t).toFixed(1)},${y(apart ? value * highest / resident : value).toFixed(1)}`).join(" ") }));
    image.append(...this.unknown(x, height), ...ticks.texts);
    for (const [seconds] of head.marks) image.append(shape("line", { class: "timeline-mark-line", x1: x(seconds), x2: x(seconds), y1: 0, y2: height }));
    this.drawing.replaceChildren(image);
    this.lane.replaceChildren(...this.buttons(x, width));
    this.showLegend(rss.length > 1 ? apart ? phrase("RSS, its own scale: at most {size}", { size: bytesText(resident) }) : "RSS" : "");
  }

  static hatching() {
    const pattern = shape("pattern", { id: "hatching", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    pattern.append(shape("line", { class: "timeline-hatch-line", x1: 0, y1: 0, x2: 0, y2: 6 }));
    const kept = shape("defs");
    kept.append(pattern);
    return kept;
  }

  ticks(width, height, most, x, y) {
    const { moments, last } = this.times;
    const lines = [], texts = [];
    for (let step = tickStep(most, height > 70 ? 3 : 2, true), value = step; value < most; value += step) {
      lines.push(shape("line", { class: "grid", x1: 0, x2: width, y1: y(value), y2: y(value) }));
      if (y(value) > 14) texts.push(shape("text", { class: "tick", x: 16, y: y(value) - 3 }, roundBytesText(value)));
    }
    const step = tickStep(moments[last] - moments[0], Math.max(width / 130, 2), false);
    for (let at = Math.ceil(moments[0] / step) * step; at <= moments[last]; at += step) {
      const place = x(at);
      if (place < 60 || place > width - 30) continue;
      texts.push(shape("text", { class: "tick", x: place, y: height - 4, "text-anchor": "middle" }, this.times.timeText(+at.toPrecision(9)).replace(/\.0+ s$/, " s")));
    }
    return { lines, texts };
  }

  // Runs of intervals of which the highest value is known, as [seconds, value].
  runs(curve) {
    const { from_s: first, interval_s: step } = this.times.head;
    const found = [];
    let run = null;
    curve.forEach((value, k) => {
      if (value === null) { run = null; return; }
      if (!run) found.push(run = []);
      run.push([first + k * step, value], [first + (k + 1) * step, value]);
    });
    return found;
  }

  linePath(curve, x, y) {
    return this.runs(curve).map((run) => `M${run.map(([t, value]) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`).join("L")}`).join("");
  }

  areaPath(curve, x, y, height) {
    return this.runs(curve).map((run) => `M${x(run[0][0]).toFixed(1)},${height}L${run.map(([t, value]) =>
      `${x(t).toFixed(1)},${y(value).toFixed(1)}`).join("L")}L${x(run[run.length - 1][0]).toFixed(1)},${height}Z`).join("");
  }

  // Times of which it is not sure what was in use, and what is missing in them.
  unknown(x, height) {
    const { unsure, holes } = this.times.head;
    const spans = unsure.map(([low, high]) => [low, high, holes.filter((hole) => hole[0] <= high && hole[1] >= low)]);
    for (const hole of holes) if (!spans.some(([, , of]) => of.includes(hole))) spans.push([hole[0], hole[1], [hole]]);
    return spans.flatMap(([low, high, of]) => {
      const lost = of.some((hole) => hole[2] === null) || !of.length ? null : of.reduce((sum, hole) => sum + hole[2], 0);
      const what = lost === null ? phrase("events are missing") : phrase("{number} events are missing", { number: countText(lost) });
      const why = [...new Set(of.map((hole) => hole[3]).filter(Boolean))].join(", ");
      const left = x(low), wide = Math.max(x(high) - left, 3);
      const box = shape("rect", { class: "timeline-hole", x: left, y: 0, width: wide, height, fill: "url(#hatching)" });
      const text = phrase("{from} to {to}: {what}{why}; what was in use is not sure", {
        from: this.times.timeText(low), to: this.times.timeText(high), what, why: why ? ` (${why})` : "",
      });
      box.append(shape("title", {}, text));
      const beside = left + 200 > this.plot.clientWidth;
      const label = shape("text", { class: "tick timeline-lost", x: beside ? left - 4 : left + wide + 4, y: 24, "text-anchor": beside ? "end" : "start" }, what);
      return [box, label];
    });
  }

  // Marks by their texts where there is room, and the highest moments: each is a button that goes there.
  buttons(x, width) {
    const { head, moments } = this.times;
    const made = [];
    let free = -Infinity;
    for (const [seconds, moment, text, kind, id] of head.marks) {
      if (kind === "end") continue;
      const place = x(seconds), room = place >= free;
      const button = this.button("timeline-mark", room ? text || "\u00b7" : "\u00b7", phrase("{text} at {time}", { text, time: this.times.timeText(seconds) }), place, () => {
        const end = kind === "begin" && head.marks.find((mark) => mark[3] === "end" && mark[4] === id && mark[0] >= seconds);
        if (end) { this.put({ from: moment, to: end[1] }); this.done(); } else this.goTo(moment);
      });
      if (place > width - MARK_ROOM) button.classList.add("last");
      if (room) free = place + MARK_ROOM;
      made.push(button);
    }
    const totals = head.live_bytes[this.drawn];
    for (const [moment] of head.peaks) {
      made.push(this.button("timeline-peak", "\u25bc", phrase("High point: {size} in use at {time}{more}", {
        size: bytesText(totals[moment]), time: this.times.secondsText(moment), more: this.times.rivalsText(moment),
      }), x(moments[moment]), () => this.goTo(moment)));
    }
    return made;
  }

  button(className, text, title, place, act) {
    const button = element("button", className, text);
    Object.assign(button, { type: "button", title });
    button.setAttribute("aria-label", title);
    button.style.left = `${(100 * place / this.plot.clientWidth).toFixed(3)}%`;
    button.addEventListener("click", act);
    return button;
  }

  // resident: what the line of RSS is; empty: there is none.
  showLegend(resident) {
    const item = (className, text) => element("span", "legend-item", null, [element("span", `timeline-swatch ${className}`), element("span", "", text)]);
    const { head, moments } = this.times;
    const profileDomains = this.domains ?? ["host"];
    const items = [item("live", profileDomains.length > 1 ? phrase("{domain}, in use", { domain: profileDomains[this.drawn] }) : phrase("in use, highest of each interval"))];
    profileDomains.forEach((domain, k) => { if (k !== this.drawn && profileDomains.length > 1) items.push(item(`other other-${k % 4}`, domain)); });
    if (resident) items.push(item("rss", resident));
    const note = [phrase("handles stop at {number} moments", { number: moments.length })];
    if (head.filtered) note.push(phrase("the curve is of all stacks"));
    if (head.marks_left_out) note.push(phrase("{number} more marks", { number: countText(head.marks_left_out) }));
    this.legend.replaceChildren(...items, element("span", "", note.join("; ")));
  }
}

// The line of a page of a log, above `below`; null where the page is of none.
function addTimeline(profile, state, below, set, done) {
  if (!profile.times) return null;
  const line = new Timeline(profile.times, state, set, done);
  line.domains = profile.domains;
  below.before(line.host);
  return line;
}
