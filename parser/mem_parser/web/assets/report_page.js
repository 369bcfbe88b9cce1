// The report: a header that always shows, and tabs that are filled when they are first looked at.
// The tab of the URL, Summary without one, is complete before the load event.

// Tabs that count the same whatever is chosen, and say so, with what they count; a budget counts for each limit.
const OWN_COUNT = { threads: { count: "inuse" }, leaks: { count: "inuse", unit: "space" }, budget: {} };
const NARROWED_TABS = new Set(["summary", "table", "threads", "graph"]);
// What the boxes do not change, by tab.
const WHOLE_PROFILE_TABS = {
  summary: "readings over time and the resident memory are of the whole process",
  leaks: "verdicts are of the whole profile: mem_parser leaks takes --focus, --ignore and --hide",
  diff: "this table is of the whole profile: mem_parser diff takes --focus, --ignore and --hide",
  budget: "verdicts are of the whole profile",
};

class ReportPage {
  constructor() {
    this.facts = readBlock("facts");
    this.account = readBlock("account");
    this.series = readBlock("series");
    this.wholeTables = unpackJson(readBlock("tables"));
    rowsWithAmounts(this.wholeTables.functions);
    this.blocks = { leaks: readBlock("leaks"), diff: readBlock("diff"), budget: readBlock("budget"), graphs: readBlock("graphs") };
    this.profile = new Profile(readBlock("tree"));
    this.narrowing = new Narrowing(this.profile);
    this.filled = {};
    this.kept = {};
    this.panels = {};
    this.buttons = {};
    this.tabs = this.listTabs();
    const settings = explorerSettings(this.profile, this.facts.start);
    settings.tab = setting.choice("summary", this.tabs.map(([key]) => key));
    this.state = new State(settings, () => this.refresh());
    this.makeHeader(document.getElementById("header"));
    this.makeTabs(document.getElementById("tabs"), document.getElementById("panels"));
    this.makeChoice(document.getElementById("choice"));
  }

  // What all tabs count, but those of OWN_COUNT; the flame graph's own toolbar has the same controls.
  makeChoice(host) {
    const add = (name, label, choices) => {
      const control = choiceControl(label, choices, this.state.get(name), (text) => this.change({ [name]: text }, true));
      control.dataset.choice = name;
      host.append(control);
    };
    if (this.profile.counts.length > 1) add("count", "Show", this.profile.counts.map((count) => [count, COUNT_WORDS[count]]));
    add("unit", "In", [["space", "bytes"], ["objects", "objects"]]);
    this.choices = [...host.querySelectorAll("[data-choice]")];
    this.choiceHost = host;
  }

  // { count, unit, words } as chosen: "bytes in use".
  get choice() {
    const count = this.state.get("count"), unit = this.state.get("unit");
    return { count, unit, words: `${unit === "space" ? "bytes" : "objects"} ${COUNT_WORDS[count]}` };
  }

  // The state as a tab takes it: only flame graph and tree show a thread or a domain alone.
  valuesOf(tab) {
    const { values, settings } = this.state;
    if (tab === "flame" || tab === "tree") return values;
    return { ...values, thread: -1, domain: settings.domain.initial, ...OWN_COUNT[tab] };
  }

  showChoice(tab) {
    this.choiceHost.hidden = tab === "flame" || tab in OWN_COUNT;
    for (const control of this.choices) control.querySelector("select").value = this.state.get(control.dataset.choice);
  }

  listTabs() {
    const tabs = [["summary", "Summary"], ["table", "Table"], ["flame", "Flame graph"]];
    if (this.blocks.graphs) tabs.push(["graph", "Call graph"]);
    tabs.push(["tree", "Tree"]);
    if (this.wholeTables.threads.length) tabs.push(["threads", "Threads"]);
    if (this.blocks.leaks) tabs.push(["leaks", "Leaks"]);
    if (this.blocks.diff || this.profile.hasDiff) tabs.push(["diff", "Diff"]);
    if (this.blocks.budget) tabs.push(["budget", "Budget"]);
    return tabs;
  }

  makeHeader(host) {
    host.append(titleLine(this.facts.title, this.state), ...headerLines(this.facts));
    this.bar = new FilterBar(this.profile, this.state, this.narrowing, (changes) => this.change(changes));
    host.after(this.bar.host);
  }

  makeTabs(bar, host) {
    bar.setAttribute("role", "tablist");
    bar.setAttribute("aria-label", "Parts of the report");
    for (const [key, label] of this.tabs) {
      const button = element("button", "tab", label);
      Object.assign(button, { type: "button", id: `tab-${key}` });
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", `panel-${key}`);
      button.addEventListener("click", () => this.open(key));
      const panel = element("section", `tab-panel panel-${key}`);
      panel.id = `panel-${key}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      this.buttons[key] = button;
      this.panels[key] = panel;
      bar.append(button);
      host.append(panel);
    }
    bar.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const keys = this.tabs.map(([key]) => key);
      const next = keys[(keys.indexOf(this.state.get("tab")) + by + keys.length) % keys.length];
      this.open(next);
      this.buttons[next].focus();
    });
  }

  open(tab) {
    if (tab !== this.state.get("tab")) this.state.set({ tab }, { step: true });
  }

  // The flame graph, made when it or the tree is first needed.
  get explorer() {
    if (!this.made) {
      const host = element("div", "explorer");
      this.panels.flame.append(host);
      this.made = new Explorer(host, this.profile, this.state, this.facts, this.narrowing);
    }
    return this.made;
  }

  // The flame graph follows a change of what is drawn with its zoom; without one there is nothing to follow.
  change(changes, step = false) {
    if (this.made) this.made.change(changes, step);
    else this.state.set({ ...changes, zoom: 0, ..."templates" in changes && { sandwich: 0 } }, { step });
  }

  // The call graph: the drawing that came with the page, or one of what the boxes leave, by the names that are shown. Null
  // where the page has none.
  drawing() {
    const { count, unit } = this.choice;
    if (this.tables === this.wholeTables) {
      const packed = this.blocks.graphs[`${count}.${unit}`];
      return packed ? unpackJson(packed) : null;
    }
    const tables = new NarrowedTables(this.narrowing.profile, this.wholeTables, this.state.get("templates"), this.facts);
    const graph = callGraph(tables, count, unit);
    const legend = [`${amountText(graph.total, unit)} ${measureWords(count, unit)}`];
    if (graph.fewer) legend.push(`${countText(graph.fewer)} ${graph.fewer === 1 ? "function" : "functions"} below 0.5 % or beyond the heaviest ${MOST_NODES} not drawn`);
    if (this.profile.hasDiff) legend.push("without the changes since the base");
    return drawGraph(graph, unit, legend);
  }

  // The tables of what the boxes leave, by the names that are shown.
  get tables() {
    const profile = this.narrowing.of(this.state.values);
    const templates = this.state.get("templates");
    if (!this.narrowing.narrows && templates === this.facts.start.templates) return this.wholeTables;
    if (this.tablesKey !== this.narrowing.key) {
      this.tablesKey = this.narrowing.key;
      this.narrowedTables = new NarrowedTables(profile, this.wholeTables, templates, this.facts).make();
    }
    return this.narrowedTables;
  }

  refresh() {
    const tab = this.state.get("tab");
    applyTheme(this.state.get("theme"));
    for (const [key, panel] of Object.entries(this.panels)) {
      panel.hidden = key !== tab;
      this.buttons[key].setAttribute("aria-selected", String(key === tab));
      if (key === tab) this.buttons[key].scrollIntoView?.({ block: "nearest", inline: "center" });
      this.buttons[key].tabIndex = key === tab ? 0 : -1;
    }
    document.documentElement.dataset.tab = tab;
    const { count, unit } = this.choice;
    const values = this.valuesOf(tab);
    showHeadline(this.facts, this.profile, values);
    this.showChoice(tab);
    this.bar.refresh(values, WHOLE_PROFILE_TABS[tab] ?? "");
    const follows = !(tab in OWN_COUNT) && tab !== "flame" && tab !== "tree";
    const filled = `${follows ? `${count}.${unit}` : "once"} ${NARROWED_TABS.has(tab) ? this.narrowing.key : ""}`;
    if (this.filled[tab] !== filled) {
      if (this.filled[tab]) this.panels[tab].replaceChildren();
      this.filled[tab] = filled;
      this.fill(tab, this.panels[tab]);
    }
    if (tab === "flame") this.explorer.refresh();
    if (tab === "tree") { this.explorer.rebuild(); this.treeTab.show(); }
  }

  fill(tab, host) {
    const makers = {
      summary: () => summaryTab(host, this), table: () => this.functionTable(host), flame: () => this.explorer,
      graph: () => this.callGraph(host),
      tree: () => { this.treeTab = new TreeTab(host, this.explorer); },
      threads: () => this.threadTable(host), leaks: () => leaksTab(host, unpackJson(this.blocks.leaks)), diff: () => this.diffTab(host),
      budget: () => budgetTab(host, unpackJson(this.blocks.budget)),
    };
    makers[tab]();
  }

  callGraph(host) {
    const { words } = this.choice;
    const drawing = this.drawing();
    host.append(element("p", "faint", drawing ? words : `There is no drawing of ${words}.`));
    if (drawing) new GraphTab(host, drawing);
  }

  functionTable(host) {
    const { rows, left_out: leftOut } = this.tables.functions;
    const { count, unit, words } = this.choice;
    const other = unit === "space" ? "objects" : "space";
    const amount = (key, label, measured, part, title) => {
      const column = `${count}.${measured}.${part}`;
      const whole = this.tables.totals[`${count}.${measured}`]?.[0] ?? 0;
      return {
        key, label, title, kind: "number", value: (row) => row[column][0], text: (row) => pairText(row[column], measured),
        bar: (row) => row[column][0] / (whole || 1), hint: (row) => percentText(row[column][0], whole),
        noise: (row) => row[column][1] !== null && row[column][1] < 0.25 * row[column][0],
      };
    };
    const columns = [
      amount("own", "Own", unit, "own", `${words}, of the function itself (or of the allocator for it)`),
      amount("total", "Total", unit, "total", `${words}, of the function and all it calls`),
      amount("other", other === "space" ? "Total bytes" : "Total objects", other, "total", "Of the function and all it calls"),
      { key: "name", label: "Function", kind: "text", main: true, text: (row) => row.name, cell: (row) => this.functionLink(row) },
    ];
    if (!this.facts.confidential) columns.push({ key: "file", label: "File", kind: "text", aside: true, text: (row) => row.file, cell: (row) => pathCell(row.file), hint: (row) => row.file, ...this.fileLinks() });
    columns.push({ key: "module", label: "Module", kind: "text", aside: true, text: (row) => row.module, cell: (row) => pathCell(row.module), hint: (row) => row.module });
    const note = leftOut ? `; ${countText(leftOut)} smaller functions are not in this table` : "";
    host.append(element("p", "faint", `${words}; \u00b1 and + - are the ends of the 95 % interval; \u2265 is a lower end alone${note}.`));
    const present = rows.filter((row) => row[`${count}.${unit}.total`][0] > 0);
    new DataTable(host, columns, present, { search: (row) => `${row.name} ${row.file} ${row.module}`, sort: "own", name: "functions", kept: this.kept.functions ??= {} });
  }

  // Files of the table open the source lines, where the page has sources.
  fileLinks() {
    if (!readBlock("source")) return {};
    const functions = new Map();
    this.profile.names.forEach((name, k) => { if (!this.profile.lineOf[k] && !functions.has(name)) functions.set(name, k); });
    return { cell: (row) => placeLink(this.explorer, row.file && pathCell(row.file), functions.get(row.name)) };
  }

  functionLink(row) {
    const button = element("button", "link", null, shortened(row.name));
    Object.assign(button, { type: "button", title: `${row.name}\nShow in the flame graph` });
    button.addEventListener("click", () => this.searchFlame(row.name));
    return button;
  }

  searchFlame(name) {
    const query = `^${name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}$`;
    this.state.set({ tab: "flame", q: query, zoom: 0, sandwich: 0 }, { step: true });
  }

  threadTable(host) {
    const threads = this.tables.threads;
    const known = threads.reduce((sum, row) => sum + row.bytes[0], 0);
    const whole = this.tables.totals["inuse.space"][0];
    host.append(element("p", "faint", "Blocks in use at the end by the thread that allocated them, whichever thread holds them now. Of other counts threads are not known."));
    const rest = whole - known;
    if (rest > 0.001 * whole) host.append(element("p", "faint", `${bytesText(rest)} are not known by thread.`));
    new DataTable(host, [
      { key: "bytes", label: "In use", kind: "number", value: (row) => row.bytes[0], text: (row) => pairText(row.bytes, "space"), bar: (row) => row.bytes[0] / (whole || 1) },
      { key: "share", label: "Share", kind: "number", value: (row) => row.bytes[0], text: (row) => percentText(row.bytes[0], whole) },
      { key: "objects", label: "Objects", kind: "number", value: (row) => row.objects[0], text: (row) => pairText(row.objects, "objects") },
      { key: "samples", label: "Samples", kind: "number", value: (row) => row.samples, text: (row) => countText(row.samples) },
      { key: "name", label: "Thread", kind: "text", main: true, text: (row) => row.name, cell: (row) => this.threadLink(row) },
    ], threads, { search: (row) => row.name, sort: "bytes", name: "threads" });
  }

  threadLink(row) {
    const button = element("button", "link", row.name);
    Object.assign(button, { type: "button", title: "Show this thread in the flame graph" });
    button.addEventListener("click", () => this.state.set({ tab: "flame", thread: row.index, zoom: 0, q: "" }, { step: true }));
    return button;
  }

  diffTab(host) {
    if (this.profile.hasDiff) {
      const show = element("button", "move", "Show the difference as a flame graph");
      show.type = "button";
      show.addEventListener("click", () => this.state.set({ tab: "flame", diff: true, thread: -1 }, { step: true }));
      host.append(show);
    }
    if (!this.blocks.diff) return;
    const { count, unit, words } = this.choice;
    const packed = this.blocks.diff[`${count}.${unit}`];
    if (packed) diffTab(host, unpackJson(packed), words, this.kept.diff ??= {});
    else host.append(element("p", "faint", `The base has no ${words}: nothing to compare.`));
  }
}

new ReportPage().refresh();
document.documentElement.dataset.ready = "1";
