// The page of memory by class: a chart over the steps, the classes and owners of the chosen moment, and all steps as a table.

const CLASS_TABS = [["classes", phrase("Classes")], ["steps", phrase("All steps")]];

class ClassesPage {
  constructor({ facts, pools: packed }) {
    Object.assign(this, { facts, packed });
    this.pools = [];
    const pools = this.packed.map((_, k) => this.pool(k));
    const most = pools.reduce((size, pool) => Math.max(size, pool.size), 0);
    this.state = new State({
      theme: setting.choice("auto", ["auto", "light", "dark"]),
      tab: setting.choice("classes", CLASS_TABS.map(([key]) => key)),
      pool: setting.number(this.facts.opening, pools.length),
      step: { ...setting.number(PEAK, most), often: true },
      when: setting.choice("peak", ["peak", "end"]),
    }, () => this.refresh());
    document.getElementById("header").append(titleLine(this.facts.title, this.state), ...headerLines(this.facts));
    this.tabs = new Tabs(document.getElementById("tabs"), document.getElementById("panels"), CLASS_TABS, this.state, phrase("Parts of the page"));
    this.kept = {};
    if (pools.length) this.make();
    else this.tabs.panels.classes.append(element("p", "", phrase("The dump has no allocations.")));
  }

  pool(number) {
    return this.pools[number] ??= new ClassPool(this.packed[number]);
  }

  get shown() {
    return this.pool(this.state.get("pool"));
  }

  // The chosen moment; a step of another pool is none of this one.
  get moment() {
    const step = this.state.get("step");
    return step < this.shown.size ? step : PEAK;
  }

  make() {
    const choice = document.getElementById("choice");
    const add = (name, label, choices, read) => {
      const control = choiceControl(label, choices, this.state.get(name), (text) => this.state.set({ [name]: read(text), ...name === "pool" && { step: PEAK } }, { step: true }));
      control.dataset.choice = name;
      choice.append(control);
    };
    if (this.pools.length > 1) add("pool", phrase("Memory"), this.pools.map((pool, k) => [k, pool.title]), Number);
    add("when", phrase("Of each step"), [["peak", phrase("its highest moment")], ["end", phrase("its end")]], String);
    const host = this.tabs.panels.classes;
    this.text = element("output", "class-text");
    this.text.id = "class-text";
    const button = (id, label, title, act) => {
      const made = toggleControl(id, label, title, act);
      made.className = "move";
      return made;
    };
    this.peakButton = button("go-peak", phrase("Peak"), phrase("The highest moment of all (p)"), () => this.choose(PEAK));
    this.moves = [
      button("go-before", "\u2190", phrase("The step before (left arrow on the chart)"), () => this.walk(-1)),
      button("go-after", "\u2192", phrase("The next step (right arrow on the chart)"), () => this.walk(1)),
    ];
    this.moves.forEach((move) => move.setAttribute("aria-label", move.title));
    this.note = element("p", "faint");
    const chart = element("div", "class-chart"), tree = element("div", "class-table");
    host.append(element("div", "class-head", null, [this.text, ...this.moves, this.peakButton]), element("div", "class-view", null, [chart, tree]));
    this.chart = new ClassChart(chart, (moment) => this.choose(moment));
    chart.append(this.note);
    this.tree = new ClassTree(tree);
    new Keys({ p: () => this.choose(PEAK) }, () => this.state.get("tab") === "classes");
  }

  choose(moment) {
    this.state.set({ step: moment });
  }

  walk(by) {
    const { size, peakStep } = this.shown;
    const at = this.moment === PEAK ? peakStep : this.moment;
    if (size) this.choose(Math.min(Math.max(at + by, 0), size - 1));
  }

  refresh() {
    applyTheme(this.state.get("theme"));
    const tab = this.state.get("tab");
    this.tabs.show(tab);
    if (!this.pools.length) return;
    const pool = this.shown, when = this.state.get("when");
    for (const control of document.querySelectorAll("[data-choice]")) control.querySelector("select").value = String(this.state.get(control.dataset.choice));
    document.querySelector(".headline").textContent = phrase("{pool}: at most {size} in use at once", { pool: pool.title, size: bytesText(pool.total(PEAK, when)) });
    if (tab === "classes") this.showClasses(pool, when);
    else this.showSteps(pool, when);
  }

  showClasses(pool, when) {
    const { moment } = this;
    this.text.textContent = `${pool.momentText(moment, when)}: ${bytesText(pool.total(moment, when))}`;
    this.peakButton.setAttribute("aria-pressed", String(moment === PEAK));
    const at = moment === PEAK ? pool.peakStep : moment;
    this.moves[0].disabled = at <= 0;
    this.moves[1].disabled = at >= pool.size - 1;
    const words = [pool.is_steps ? plural("{number} step", "{number} steps", pool.size) : phrase("The dump has no steps: bars are parts of its time")];
    if (pool.left_out) words.push(phrase("{number} more are not on this page, none higher than a neighbour that is", { number: countText(pool.left_out) }));
    words.push(phrase("click a bar, or walk with the arrow keys; p is the peak; a row opens to its owners, and these to the operators that allocated"));
    this.note.textContent = `${words.join("; ")}.`;
    this.chart.show(pool, moment, when);
    this.tree.show(pool, moment, when);
  }

  // The table of all steps, anew where it would be another one.
  showSteps(pool, when) {
    const key = `${this.state.get("pool")} ${when}`;
    if (this.filled === key) return;
    this.filled = key;
    const host = this.tabs.panels.steps;
    const bytes = (label, value, title = "") => ({
      key: label, label, title, kind: "number", value, text: (step) => bytesText(value(step)),
    });
    const highest = pool.totals(when).reduce((a, b) => Math.max(a, b), 1);
    const total = { ...bytes(" total", (step) => pool.totals(when)[step]), label: english("Total"), bar: (step) => pool.totals(when)[step] / highest };
    const columns = [
      { key: " step", label: pool.is_steps ? english("Step") : english("Time"), kind: "text", text: (step) => pool.is_steps ? pool.steps[step] : pool.stepName(step), cell: (step) => this.stepLink(pool, step), rank: (step) => step },
      total,
      ...pool.classes.map((name, k) => bytes(name, (step) => pool.classColumn(k, when)[step])),
    ];
    const words = when === "peak" ? phrase("Bytes in use at the highest moment of each step") : phrase("Bytes in use at the end of each step");
    host.replaceChildren(element("p", "faint", `${words}${pool.left_out ? phrase("; {number} more steps are not on this page", { number: countText(pool.left_out) }) : ""}.`));
    new DataTable(host, columns, Array.from({ length: pool.size }, (_, k) => k), { search: (step) => pool.stepName(step), name: "steps", kept: this.kept });
  }

  stepLink(pool, step) {
    const button = element("button", "link", pool.is_steps ? pool.steps[step] || "\u00b7" : pool.stepName(step));
    Object.assign(button, { type: "button", title: phrase("Show its classes") });
    button.addEventListener("click", () => this.state.set({ tab: "classes", step }, { step: true }));
    return button;
  }
}

startPage((data) => {
  new ClassesPage(data).refresh();
  document.documentElement.dataset.ready = "1";
});
