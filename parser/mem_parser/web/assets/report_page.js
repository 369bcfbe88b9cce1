// The report: a header that always shows, and tabs that are filled when they are first looked at.

// Tabs that count the same whatever is chosen, and say so, with what they count; a budget counts for each limit.
const OWN_COUNT = { threads: { count: "inuse" }, leaks: { count: "inuse", unit: "space" }, budget: {} };
// Rows of a table that follows a handle; all others are there when it rests.
const MOVING_ROWS = 40;
const NARROWED_TABS = new Set(["summary", "table", "threads", "graph"]);
// What the boxes do not change, by tab.
const WHOLE_PROFILE_TABS = {
  summary: phrase("readings over time and the resident memory are of the whole process"),
  leaks: phrase("verdicts are of the whole profile"),
  diff: phrase("this table is of the whole profile"),
  budget: phrase("verdicts are of the whole profile"),
};

// What a window of a log's time does not change, by tab.
const WHOLE_TIME_TABS = { leaks: phrase("verdicts are of the whole time"), summary: phrase("the resident memory is that of the end") };

const TAB_LABELS = {
  summary: phrase("Summary"), table: phrase("Table"), flame: phrase("Flame graph"), graph: phrase("Call graph"), tree: phrase("Tree"), threads: phrase("Threads"), leaks: phrase("Leaks"),
  diff: phrase("Diff"), budget: phrase("Budget"),
};

// What is a number of the data: other data has other numbers.
const DATA_NUMBERS = ["thread", "domain", "sandwich", "zoom"];

class ReportPage {
  // data: a block by its name, and the profile, if it was made already. live: other data of the same process will come (`renew`), with other tabs; `settings` are
  // more settings of the state.
  constructor(data, { live = false, settings = {} } = {}) {
    this.live = live;
    this.moreSettings = settings;
    this.kept = {};
    this.read(data);
    this.listed = live ? Object.entries(TAB_LABELS) : this.presentTabs();
    this.state = new State(this.settings(), () => this.refresh());
    if (live) this.state.unshared = DATA_NUMBERS;
    this.state.inWords = () => live ? this.inWords() : {};
    this.state.fromWords = (words) => { if (live) this.fromWords(words); };
    this.makeHeader(document.getElementById("header"));
    this.tabs = new Tabs(document.getElementById("tabs"), document.getElementById("panels"), this.listed, this.state, phrase("Parts of the report"));
    this.panels = this.tabs.panels;
    this.makeChoice(document.getElementById("choice"));
  }

  read(data) {
    this.facts = data.facts;
    this.account = data.account;
    this.opening = data.opening;
    this.series = data.series;
    this.wholeTables = unpackJson(data.tables);
    this.blocks = { leaks: data.leaks ?? null, diff: data.diff ?? null, budget: data.budget ?? null, source: data.source ?? null };
    this.profile = data.profile ?? new Profile(data.tree, data.times);
    this.narrowing = new Narrowing(this.profile);
    this.filled = {};
    this.tablesKey = null;
  }

  settings() {
    return {
      ...explorerSettings(this.profile, this.facts.start),
      tab: setting.choice(this.blocks.budget ? "budget" : this.blocks.diff ? "diff" : "summary", this.listed.map(([key]) => key)), ...this.moreSettings,
    };
  }

  // Shows other data of the same process: what the reader chose, opened and typed stays, by name where it was a number.
  renew(data) {
    const words = this.inWords();
    const { tab } = this.state.values;
    const tree = tab === "tree" ? this.treeTab?.inWords : null;
    const place = placeIn(this.panels[tab]);
    this.read(data);
    this.state.renew(this.settings());
    renewHeader(document.getElementById("header"), this.facts);
    this.bar.renew(this.profile, this.narrowing);
    this.made?.renew(this.profile, this.facts, this.narrowing, null);
    if (this.choiceKey !== String(this.profile.counts)) {
      this.choiceHost.replaceChildren();
      this.makeChoice(this.choiceHost);
    }
    this.fromWords(words);
    if (tree) this.treeTab.view = null;
    this.renewing = true;
    keepFocus(() => this.refresh());
    this.renewing = false;
    if (tree) this.treeTab.showAgain(tree);
    place();
  }

  // By name what the state has as numbers of the data.
  inWords() {
    const { thread, domain, sandwich } = this.state.values;
    return {
      thread: this.profile.threads[thread], domain: this.profile.domains[domain], sandwich: sandwich > 0 ? this.profile.names[sandwich] : "",
      frames: this.made?.inWords ?? null,
    };
  }

  fromWords({ thread, domain, sandwich, frames }) {
    const { values, settings } = this.state;
    values.thread = this.profile.threads.indexOf(thread);
    const at = this.profile.domains.indexOf(domain);
    values.domain = at < 0 ? settings.domain.initial : at;
    values.sandwich = sandwich ? Math.max(this.profile.names.indexOf(sandwich), 0) : 0;
    values.zoom = 0;
    if (frames && this.made) this.made.applyWords(frames);
  }

  // What all tabs count, but those of OWN_COUNT; the flame graph's own toolbar has the same controls.
  makeChoice(host) {
    const add = (name, label, choices) => {
      const control = choiceControl(label, choices, this.state.get(name), (text) => this.change({ [name]: text }, true));
      control.dataset.choice = name;
      host.append(control);
    };
    if (this.profile.counts.length > 1) add("count", phrase("Show"), this.profile.counts.map((count) => [count, COUNT_WORDS[count]]));
    add("unit", phrase("In"), [["space", phrase("bytes")], ["objects", phrase("blocks")]]);
    this.choices = [...host.querySelectorAll("[data-choice]")];
    this.choiceHost = host;
    this.choiceKey = String(this.profile.counts);
  }

  // { count, unit, words } as chosen: "bytes in use".
  get choice() {
    const count = this.state.get("count"), unit = this.state.get("unit");
    return { count, unit, words: countedWords(count, unit) };
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

  // The tabs that there is something for; what was asked for comes first, a budget or a comparison, then a leak.
  presentTabs() {
    const there = {
      threads: this.profile.threadRows.thread.some((thread) => thread > 0), leaks: this.blocks.leaks,
      diff: this.blocks.diff || this.profile.hasDiff, budget: this.blocks.budget,
    };
    const present = Object.entries(TAB_LABELS).filter(([key]) => !(key in there) || there[key]);
    const first = ["budget", ...this.blocks.diff ? ["diff"] : [], ...this.opening?.some(({ kind }) => kind === "leak") ? ["leaks"] : []];
    const rank = ([key]) => (first.indexOf(key) + 1 || 9);
    return present.sort((one, other) => rank(one) - rank(other));
  }

  // Leaves a tab that the data has no more.
  showTabs() {
    if (!this.live) return;
    const present = new Set(this.presentTabs().map(([key]) => key));
    for (const [key, button] of Object.entries(this.tabs.buttons)) button.hidden = !present.has(key);
    if (!present.has(this.state.get("tab"))) this.state.values.tab = "summary";
  }

  makeHeader(host) {
    host.append(titleLine(this.facts.title, this.state), ...headerLines(this.facts));
    this.bar = new FilterBar(this.profile, this.state, this.narrowing, (changes) => this.change(changes));
    host.after(this.bar.host);
    if (this.profile.times) this.line = addTimeline(this.profile, this.state, this.bar.host, (changes) => this.change(changes), () => this.refresh());
  }

  // The flame graph, made when it or the tree is first needed.
  get explorer() {
    if (!this.made) {
      const host = element("div", "explorer");
      this.panels.flame.append(host);
      this.made = new Explorer(host, this.profile, this.state, this.facts, this.narrowing, this.blocks.source);
    }
    return this.made;
  }

  // The flame graph follows a change of what is drawn with its zoom; without one there is nothing to follow.
  change(changes, step = false) {
    if (this.made) this.made.change(changes, step);
    else this.state.set({ ...changes, zoom: 0, ..."templates" in changes && { sandwich: 0 } }, { step });
  }

  // The call graph of what the boxes leave, by the names that are shown, in the panel `host`.
  callGraph(host) {
    const { count, unit, words } = this.choice;
    const graph = count === "change" ? null : callGraph(new ReportTables(this.narrowing.of(this.state.values), this.wholeTables, this.state.get("templates"), this.facts), count, unit);
    if (!graph?.nodes.length) {
      host.append(element("p", "faint", phrase("There is no drawing of {what}.", { what: words })));
      return;
    }
    const total = `${pairText(this.tables.totals[`${count}.${unit}`], unit)} ${measureWords(count, unit)}`;
    const heading = `${this.facts.title}: ${graph.change ? phrase("change since the base: {change}", { change: changeLine(graph.change, unit) }) : total}`;
    const legend = graph.change ? [total, words] : [words];
    if (graph.change) {
      const noise = this.facts.exact ? phrase("grey and ~: inside the noise") : phrase("these files carry no errors");
      legend.push(phrase("red and +: grew; blue and \u2212: shrank; {noise}", { noise }));
    }
    if (graph.fewer) legend.push(plural("{number} function below 0.5 % or beyond the heaviest {most} not drawn", "{number} functions below 0.5 % or beyond the heaviest {most} not drawn", graph.fewer, { most: MOST_NODES }));
    if (!this.renewing) this.kept.graph = {};
    new GraphTab(host, drawGraph(graph, unit), heading, legend, this.kept.graph);
  }

  // Whether a handle of the line is held.
  get moving() {
    return Boolean(this.line?.dragged);
  }

  // The tables of what the boxes leave, by the names that are shown. Only what shows is made: a window changes many times a
  // second.
  get tables() {
    const profile = this.narrowing.of(this.state.values);
    const templates = this.state.get("templates");
    const chosen = this.state.get("count"), onSummary = this.state.get("tab") === "summary";
    const counts = profile.counts.filter((count) => count === chosen || onSummary && count === "alloc");
    const key = `${counts} ${this.narrowing.key}`;
    if (this.tablesKey !== key) {
      this.tablesKey = key;
      this.narrowedTables = new ReportTables(profile, this.wholeTables, templates, this.facts, !this.narrowing.narrows && !profile.window).make(counts);
    }
    return this.narrowedTables;
  }

  refresh() {
    if (this.narrowing.waits(this.state.values, () => this.refresh())) return;
    this.showTabs();
    const tab = this.state.get("tab");
    applyTheme(this.state.get("theme"));
    this.tabs.show(tab);
    document.documentElement.dataset.tab = tab;
    const { count, unit } = this.choice;
    const values = this.valuesOf(tab);
    showHeadline(this.facts, this.profile, values);
    this.showChoice(tab);
    this.bar.refresh(values, WHOLE_PROFILE_TABS[tab] ?? "");
    const follows = !(tab in OWN_COUNT) && tab !== "flame" && tab !== "tree";
    const filled = `${follows ? `${count}.${unit}` : "once"} ${NARROWED_TABS.has(tab) ? this.narrowing.key : ""} ${tab === "table" && this.moving}`;
    this.line?.refresh(WHOLE_TIME_TABS[tab]);
    // A drawing of calls takes too long to follow a handle: it waits until the handle rests.
    if (this.filled[tab] !== filled && !(tab === "graph" && this.moving)) {
      // The flame graph's panel is filled once: it changes in place.
      if (["flame", "graph", "tree"].every((other) => tab !== other)) {
        const fresh = element("div");
        this.fill(tab, fresh);
        putInPlace(this.panels[tab], fresh);
      } else if (tab === "graph") {
        this.panels[tab].replaceChildren();
        this.fill(tab, this.panels[tab]);
      } else if (!this.filled[tab]) this.fill(tab, this.panels[tab]);
      this.filled[tab] = filled;
    }
    if (tab === "flame") this.explorer.refresh();
    if (tab === "tree") { this.explorer.rebuild(); this.treeTab.show(); }
    document.documentElement.dataset.ready = "1";
  }

  fill(tab, host) {
    const makers = {
      summary: () => summaryTab(host, this), table: () => this.functionTable(host), flame: () => this.explorer,
      graph: () => this.callGraph(host),
      tree: () => { this.treeTab ??= new TreeTab(host, this.explorer); },
      threads: () => this.threadTable(host), leaks: () => leaksTab(host, unpackJson(this.blocks.leaks), this.kept.leaks ??= {}), diff: () => this.diffTab(host),
      budget: () => budgetTab(host, unpackJson(this.blocks.budget)),
    };
    makers[tab]();
  }

  functionTable(host) {
    const { rows, left_out: leftOut } = this.tables.functions;
    const { count, unit, words } = this.choice;
    const other = unit === "space" ? "objects" : "space";
    const change = count === "change";
    const amount = (key, label, measured, part, title) => {
      const column = `${count}.${measured}.${part}`;
      const total = this.tables.totals[`${count}.${measured}`]?.[0] ?? 0;
      const whole = change ? rows.reduce((most, row) => Math.max(most, Math.abs(row[column][0])), 0) : total;
      return {
        key, label, title, kind: "number", value: (row) => row[column][0], text: (row) => pairText(row[column], measured, change),
        bar: (row) => Math.abs(row[column][0]) / (whole || 1), hint: (row) => change ? "" : percentText(row[column][0], whole),
        noise: (row) => row[column][1] !== null && (change ? row[column][1] <= 0 && row[column][2] >= 0 : row[column][1] < 0.25 * row[column][0]),
      };
    };
    const columns = [
      amount("own", english("Own"), unit, "own", phrase("{what}, of the function itself (or of the allocator for it)", { what: words })),
      amount("total", english("Total"), unit, "total", phrase("{what}, of the function and all it calls", { what: words })),
      // Its error has no room: that of Total is much the same.
      { ...amount("other", other === "space" ? english("Total bytes") : english("Total blocks"), other, "total", phrase("Of the function and all it calls")),
        text: (row) => (change ? signedText : amountText)(row[`${count}.${other}.total`][0], other) },
      { key: "name", label: english("Function"), kind: "text", main: true, text: (row) => row.name, cell: (row) => this.functionLink(row) },
    ];
    if (!this.facts.confidential) columns.push({ key: "file", label: english("File"), kind: "text", aside: true, text: (row) => row.file, cell: (row) => pathCell(row.file), hint: (row) => row.file, ...this.fileLinks() });
    columns.push({ key: "module", label: english("Module"), kind: "text", aside: true, text: (row) => row.module, cell: (row) => pathCell(row.module), hint: (row) => row.module });
    const hidden = this.profile.rest.includes(1) ? phrase("; functions of \u201c{frame}\u201d are in its row alone", { frame: REST_FRAME }) : "";
    const note = leftOut ? phrase("; {number} smaller functions are not in this table", { number: countText(leftOut) }) : "";
    host.append(element("p", "faint", phrase("{what}; \u00b1 is the 95 % margin of error; \u2265 means at least{more}{hidden}.", { what: words, more: note, hidden })));
    const present = rows.filter((row) => change ? row[`${count}.${unit}.total`][0] !== 0 : row[`${count}.${unit}.total`][0] > 0);
    showTable(host, columns, present, { search: (row) => `${row.name} ${row.file} ${row.module}`, sort: "own", name: "functions", kept: this.kept.functions ??= {}, shown: this.moving ? MOVING_ROWS : PAGE_ROWS,
      zeros: change ? null : (callers) => plural("{number} caller without own memory hidden: sort by Total to show them", "{number} callers without own memory hidden: sort by Total to show them", callers) });
  }

  // Files of the table open the source lines, where the page has sources.
  fileLinks() {
    if (!this.blocks.source) return {};
    const functions = new Map();
    this.profile.names.forEach((name, k) => { if (!this.profile.lineOf[k] && !functions.has(name)) functions.set(name, k); });
    return { cell: (row) => placeLink(this.explorer, row.file && pathCell(row.file), functions.get(row.name)) };
  }

  functionLink(row) {
    const button = element("button", "link", null, shortened(row.name));
    Object.assign(button, { type: "button", title: `${row.name}\n${phrase("Show in the flame graph")}` });
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
    host.append(element("p", "faint", phrase("Blocks in use by the thread that allocated them, whichever thread holds them now. Of other counts threads are not known.")));
    const rest = whole - known;
    if (rest > 0.001 * whole) host.append(element("p", "faint", phrase("{size} are not known by thread.", { size: bytesText(rest) })));
    showTable(host, [
      { key: "bytes", label: english("In use"), kind: "number", value: (row) => row.bytes[0], text: (row) => pairText(row.bytes, "space"), bar: (row) => row.bytes[0] / (whole || 1) },
      { key: "share", label: english("Share"), kind: "number", value: (row) => row.bytes[0], text: (row) => percentText(row.bytes[0], whole) },
      { key: "objects", label: english("Blocks"), kind: "number", value: (row) => row.objects[0], text: (row) => pairText(row.objects, "objects") },
      { key: "samples", label: english("Samples"), kind: "number", value: (row) => row.samples, text: (row) => countText(row.samples) },
      { key: "name", label: english("Thread"), kind: "text", main: true, text: (row) => row.name, cell: (row) => this.threadLink(row) },
    ], threads, { search: (row) => row.name, sort: "bytes", name: "threads", kept: this.kept.threads ??= {} });
  }

  threadLink(row) {
    const button = element("button", "link", row.name);
    Object.assign(button, { type: "button", title: phrase("Show this thread in the flame graph") });
    button.addEventListener("click", () => this.state.set({ tab: "flame", thread: this.threadOf(row), zoom: 0, q: "" }, { step: true }));
    return button;
  }

  // A row may stay while other data numbers the threads anew.
  threadOf({ index, name }) {
    const { threads } = this.profile;
    return threads[index] === name ? index : threads.indexOf(name);
  }

  diffTab(host) {
    if (this.profile.hasDiff) {
      const show = element("button", "move", phrase("Show the difference as a flame graph"));
      show.type = "button";
      show.addEventListener("click", () => this.state.set({ tab: "flame", diff: true, thread: -1 }, { step: true }));
      host.append(show);
    }
    if (!this.blocks.diff) return;
    const { count, unit, words } = this.choice;
    const packed = this.blocks.diff[`${count}.${unit}`];
    if (packed) diffTab(host, unpackJson(packed), words, this.kept.diff ??= {});
    else host.append(element("p", "faint", phrase("The base has no {what}: nothing to compare.", { what: words })));
  }
}

// Returns what scrolls the page, and a drawing that is made anew, back to where they were.
function placeIn(panel) {
  const graph = () => panel.querySelector(".call-graph");
  const { scrollTop: top = 0, scrollLeft: left = 0 } = graph() ?? {}, page = scrollY;
  return () => {
    graph()?.scrollTo({ top, left });
    if (scrollY !== page) scrollTo({ top: page, behavior: "instant" });
  };
}
