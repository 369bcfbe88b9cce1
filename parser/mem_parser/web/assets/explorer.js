// The flame graph with everything around it: builds the view that the state asks for and keeps all parts in step.

const HELP_NOTES = [
  phrase("A frame's width is the estimate for all stacks through it. \u00b1 is the 95 % margin of error: numbers are estimates from samples."),
  phrase("Focus, Ignore and Hide take regular expressions; they match function, full name, file and module."),
  phrase("Grey strips are frames too narrow to see: zoom in, or search."),
];

// start: what the page was made to show first
function explorerSettings(profile, start) {
  const counts = profile.counts;
  return {
    count: setting.choice(counts.includes(start.count) ? start.count : counts[0], counts),
    unit: setting.choice(start.unit, ["space", "objects"]),
    thread: setting.number(-1, profile.threads.length),
    domain: setting.number(start.apart ? 0 : -1, profile.domains.length),
    flip: setting.flag(false),
    invert: setting.flag(Boolean(start.invert)),
    lines: setting.flag(false),
    templates: setting.flag(start.templates && profile.hasTemplates),
    collapse: setting.flag(false),
    hideAllocators: setting.flag(start.hideAllocators),
    hideImports: setting.flag(false),
    labels: setting.flag(start.labels && profile.hasLabels),
    diff: setting.flag(profile.hasDiff),
    sandwich: setting.number(0, profile.names.length),
    zoom: setting.number(0, 2 ** 31),
    q: setting.text("", 300),
    focus: setting.text("", LONGEST_PATTERN),
    ignore: setting.text("", LONGEST_PATTERN),
    hide: setting.text("", LONGEST_PATTERN),
    source: setting.flag(false),
    ...profile.times && {
      from: { ...setting.number(0, profile.times.moments.length), often: true },
      to: { ...setting.number(profile.times.last, profile.times.moments.length), often: true },
    },
    theme: setting.choice("auto", ["auto", "light", "dark"]),
  };
}

const VIEW_SETTINGS = ["count", "unit", "thread", "domain", "invert", "lines", "templates", "collapse", "hideAllocators", "hideImports", "labels", "diff", "sandwich", "from", "to", ...BOXES];

class Explorer {
  // narrowing: of the profile, by the boxes; source: the packed text of source lines, if the page has some
  constructor(host, profile, state, { exact, unseen }, narrowing, source) {
    Object.assign(this, { host, profile, narrowing, state, exact, unseen, views: null, viewKey: "", selected: -1, pane: 0, furthest: 0, match: -1 });
    this.actions = {
      set: (changes) => this.change(changes), back: () => state.back(), forward: () => history.forward(),
      reset: () => this.reset(), step: (by) => this.stepMatch(by), help: () => this.help.toggle(),
    };
    this.search = this.makeSearch();
    this.toolbar = this.makeToolbar(host);
    this.banner = element("div", "banner");
    this.graph = element("div", "graph");
    this.graph.tabIndex = 0;
    this.graph.setAttribute("role", "application");
    this.graph.setAttribute("aria-label", phrase("Flame graph; arrows walk from frame to frame, ? lists the keys"));
    host.append(this.banner, this.graph);
    this.canvases = [0, 1].map((pane) => new FlameCanvas(this.graph, {
      onPick: (node, touch) => this.pick(pane, node, touch),
      onHover: (node, event) => this.hover(pane, node, event),
      onMenu: (node, event) => this.menu(pane, node, event),
    }));
    this.tooltip = new Tooltip();
    this.details = new Details(host, this);
    this.source = new SourceText(source ? unpackJson(source) : null);
    this.sourcePane = new SourcePane(host);
    this.help = new HelpDialog(HELP_NOTES);
    new Keys(this.keyActions(), () => host.offsetParent !== null || host.getClientRects().length > 0);
    systemDark.addEventListener("change", () => this.refresh());
    whenPrinted(() => this.refresh());
  }

  makeSearch() {
    return new Search(this.profile, () => { if (this.host.getClientRects().length) this.refresh(); });
  }

  makeToolbar(host) {
    return new Toolbar(host, this.narrowing.labelled, this.state, this.actions, this.state.settings.domain.initial < 0);
  }

  // What the view shows, in words that hold for other data of the same process.
  get inWords() {
    if (!this.views) return null;
    const words = (node) => this.views[0].path(node).slice(1).map((k) => this.profile.names[this.functionAt(k)]);
    return { zoom: words(this.zoom), selected: this.pane === 0 && this.selected > 0 && this.selected < this.views[0].size ? words(this.selected) : null };
  }

  // Other data of the same process; `words` are those of `inWords` before.
  renew(profile, { exact, unseen }, narrowing, words) {
    Object.assign(this, { profile, narrowing, exact, unseen, viewKey: "", selected: -1, palette: null });
    this.search = this.makeSearch();
    if (Toolbar.keyOf(profile) !== this.toolbar.key) {
      const old = this.toolbar.bar;
      this.toolbar = this.makeToolbar(this.host);
      old.replaceWith(this.toolbar.bar);
    }
    if (words) this.applyWords(words);
  }

  applyWords({ zoom, selected }) {
    this.rebuild();
    this.state.values.zoom = this.followWords(zoom ?? []);
    if (selected) {
      this.pane = 0;
      this.selected = this.followWords(selected);
    }
  }

  followWords(names) {
    const view = this.views[0];
    let node = 0;
    for (const name of names) {
      const next = view.childrenOf(node).find((child) => this.profile.names[this.functionAt(child)] === name);
      if (next === undefined) break;
      node = next;
    }
    return node;
  }

  get unit() { return this.state.get("unit"); }

  get countWords() {
    return COUNT_WORDS[countOf(this.state.values)];
  }

  get zoom() {
    const zoom = this.state.get("zoom");
    return zoom < this.views[0].size ? zoom : 0;
  }

  // A change of what is drawn forgets the zoom but follows its path by name where that still exists.
  change(changes, step = false) {
    if (("lines" in changes || "templates" in changes) && this.state.get("sandwich") > 0) changes = { sandwich: 0, ...changes };
    const redraws = VIEW_SETTINGS.some((name) => name in changes && changes[name] !== this.state.get(name));
    const keeps = redraws && !("invert" in changes) && !("sandwich" in changes) && this.views;
    const names = keeps ? this.views[0].path(this.zoom).slice(1).map((node) => this.functionAt(node)) : [];
    if (redraws) {
      this.selected = -1;
      Object.assign(this.state.values, changes, { zoom: 0 });
      this.rebuild();
      changes = { ...changes, zoom: this.follow(names) };
    }
    this.state.set(changes, { step: step || "sandwich" in changes });
  }

  functionAt(node) {
    return this.profile.functionOf[this.views[0].name[node]];
  }

  showSource(name) {
    this.rebuild();
    this.sourceDialog ??= new SourceDialog();
    this.sourceDialog.show(this, name);
  }

  follow(names) {
    const view = this.views[0];
    let node = 0;
    for (const name of names) {
      const next = view.childrenOf(node).find((child) => this.functionAt(child) === name);
      if (next !== undefined) node = next;
    }
    return node;
  }

  rebuild() {
    const values = this.state.values;
    this.profile = this.narrowing.of(values);
    const key = JSON.stringify([this.narrowing.key, ...VIEW_SETTINGS.map((name) => values[name])]);
    if (key === this.viewKey) return;
    this.viewKey = key;
    this.profile.callBy(values);
    const own = this.profile.measure(values);
    if (values.sandwich > 0) {
      const { callers, callees } = buildSandwich(this.profile, own, values, values.sandwich);
      this.views = [callees, callers];
    } else {
      this.views = [(values.invert ? buildInverted : buildDownward)(this.profile, own, values)];
    }
  }

  // Draws everything from the state.
  refresh() {
    const dark = isDark(this.state.get("theme"));
    applyTheme(this.state.get("theme"));
    if (!this.palette || this.palette.dark !== dark) this.palette = new Palette(this.profile, dark);
    this.rebuild();
    const search = this.search.find(this.state.get("q"));
    this.matched = search?.matched ?? null;
    const sandwich = this.state.get("sandwich") > 0;
    this.graph.classList.toggle("sandwich", sandwich);
    this.furthest = Math.max(this.furthest, this.state.steps);
    this.toolbar.refresh({
      canGoForward: this.state.steps < this.furthest,
      zoomed: this.zoom > 0 || sandwich,
      searchText: this.searchText(search), searchProblem: search?.problem,
    });
    this.showBanner(sandwich);
    this.drawPane(0, this.views[0], this.zoom, !sandwich && this.state.get("flip"));
    if (sandwich) this.drawPane(1, this.views[1], 0, true);
    this.showDetails(this.pane, this.selected);
  }

  drawPane(pane, view, zoom, upward) {
    const canvas = this.canvases[pane];
    canvas.matched = this.matched;
    canvas.selected = this.pane === pane ? this.selected : -1;
    canvas.show(view, {
      zoom, upward, palette: this.palette,
      labelOf: (node) => this.label(view, node),
      colourOf: (node) => view.hasBase ? this.palette.ofChange(changeOf(view, node, this.exact, this.unseen[this.unit])) : this.palette.ofName(view.name[node]),
    });
  }

  label(view, node) {
    const name = view.name[node];
    const change = this.profile.window && view.hasBase;
    if (name === 0 && change) return phrase("all: {amount} {what}", { amount: signedText(view.value[0] - view.base[0], this.unit), what: this.countWords });
    if (name === 0) return phrase("all: {amount} {what}", { amount: amountText(view.value[0], this.unit), what: this.countWords });
    const text = this.profile.names[name];
    if (!view.hasBase) return text;
    const grown = changeOf(view, node, this.exact, this.unseen[this.unit]);
    if (grown === null) return text;
    return `${grown > 0 ? "+" : "\u2212"} ${text}`;
  }

  searchText(search) {
    if (!search) return "";
    if (!search.matched) return search.problem ?? phrase("searching");
    const view = this.views[0];
    const total = matchedTotals(view, search.matched, this.zoom);
    if (!total.frames) return phrase("no match");
    const text = estimateText(total.value, total.variance, total.samples, this.unit, this);
    return phrase("{amount} matched ({share})", { amount: text, share: percentText(total.width, view.width[this.zoom]) });
  }

  showBanner(sandwich) {
    this.banner.hidden = !sandwich;
    if (!sandwich) return;
    const leave = element("button", "move", phrase("Leave sandwich"));
    leave.type = "button";
    leave.id = "leave-sandwich";
    leave.addEventListener("click", () => this.change({ sandwich: 0 }));
    const name = this.profile.names[this.state.get("sandwich")];
    this.banner.replaceChildren(element("span", "", phrase("Callers above, callees below: ")), element("strong", "", name), leave);
  }

  pick(pane, node, touch) {
    const view = this.views[pane];
    const target = node < 0 ? -2 - node : node;
    const again = this.selected === target && this.pane === pane;
    this.pane = pane;
    this.selected = target;
    if (pane === 0 && (!touch || again || node < 0)) this.zoomTo(target);
    else this.refresh();
    if (view.size) this.tooltip.hide();
  }

  zoomTo(node) {
    if (node === this.zoom) { this.refresh(); return; }
    this.state.set({ zoom: node }, { step: true });
  }

  reset() {
    this.selected = -1;
    if (this.state.get("sandwich") > 0) this.change({ sandwich: 0 });
    else this.zoomTo(0);
  }

  menu(pane, node, event) {
    const name = this.views[pane].name[node];
    if (!name) return;
    event.preventDefault();
    this.change({ sandwich: name });
  }

  hover(pane, node, event) {
    const view = this.views[pane];
    if (node === -1 || !event) { this.tooltip.hide(); return; }
    if (node < -1) {
      const parent = -2 - node;
      const narrow = [...view.childrenOf(parent)].filter((child) =>
        view.width[child] / view.width[this.zoom] * this.canvases[pane].width < NARROWEST);
      const width = narrow.reduce((sum, child) => sum + view.width[child], 0);
      this.tooltip.show(phrase("{number} narrow frames", { number: countText(narrow.length) }), [
        [phrase("together"), amountText(width, this.unit)], ["", phrase("click to zoom to their caller")]], event);
      return;
    }
    this.tooltip.show(frameTitle(this, view, node), frameFacts(this, view, node), event);
  }

  showDetails(pane, node) {
    const view = this.views[Math.min(pane, this.views.length - 1)];
    const shown = node >= 0 && node < view.size ? node : this.zoom;
    const name = view.name[shown];
    const buttons = [];
    if (pane === 0 && shown !== this.zoom) buttons.push([phrase("Zoom"), () => this.zoomTo(shown)]);
    if (name && this.state.get("sandwich") !== name) buttons.push([phrase("Sandwich"), () => this.change({ sandwich: name })]);
    if (name) buttons.push([phrase("Copy name"), () => navigator.clipboard?.writeText(this.profile.names[name]).catch(() => {})]);
    const open = this.state.get("source");
    if (this.source.there) buttons.push([open ? phrase("Hide source") : phrase("Source"), () => this.state.set({ source: !open })]);
    this.sourcePane.show(this, name);
    this.details.show(frameTitle(this, view, shown), frameFacts(this, view, shown), buttons);
  }

  walk(direction) {
    const view = this.views[0];
    this.pane = 0;
    const from = this.selected >= 0 && this.selected < view.size ? this.selected : this.zoom;
    const to = this.selected < 0 ? from : neighbour(view, from, direction);
    this.selected = to;
    if (!this.canvases[0].boxOf(to)) this.zoomTo(view.parent[to] >= 0 ? view.parent[to] : 0);
    this.refresh();
    this.canvases[0].select(to);
  }

  stepMatch(by) {
    if (!this.matched) return;
    const nodes = matchedNodes(this.views[0], this.matched, this.zoom, 1000);
    if (!nodes.length) return;
    this.match = (this.match + by + nodes.length) % nodes.length;
    this.pane = 0;
    this.selected = nodes[this.match];
    this.refresh();
    this.canvases[0].select(this.selected);
  }

  keyActions() {
    const toggle = (name) => () => {
      if (this.toolbar.buttons[name] && !this.toolbar.buttons[name].disabled) this.change({ [name]: !this.state.get(name) });
    };
    const next = (name, choices) => () => {
      if (choices.length > 1) this.change({ [name]: choices[(choices.indexOf(this.state.get(name)) + 1) % choices.length] });
    };
    const vertical = (toRoot) => () => this.walk(toRoot !== this.state.get("flip") ? "parent" : "child");
    const back = () => this.state.canGoBack ? this.state.back() : this.reset();
    const sandwich = () => {
      const name = this.views[0].name[this.selected >= 0 ? this.selected : this.zoom];
      if (this.state.get("sandwich") > 0) this.change({ sandwich: 0 });
      else if (name) this.change({ sandwich: name });
    };
    return {
      Enter: () => this.selected >= 0 && this.zoomTo(this.selected), Backspace: back, Escape: back, 0: () => this.reset(),
      ArrowUp: vertical(true), ArrowDown: vertical(false),
      ArrowLeft: () => this.walk("previous"), ArrowRight: () => this.walk("next"),
      "/": () => this.toolbar.input.focus(), n: () => this.stepMatch(1), p: () => this.stepMatch(-1),
      f: toggle("flip"), i: toggle("invert"), c: toggle("collapse"), l: toggle("lines"), a: toggle("hideAllocators"), m: toggle("hideImports"), w: toggle("labels"),
      d: toggle("diff"), s: sandwich, v: next("count", this.profile.counts), b: next("unit", ["space", "objects"]),
      "?": () => this.help.toggle(),
    };
  }
}
