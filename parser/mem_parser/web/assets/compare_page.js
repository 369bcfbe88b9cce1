// The page of two runs: what changed at the peaks, by operator, by module, and each operator of both in their order.
// A side is null where it has no such thing; it counts as 0 in a difference.

const NOTHING = "N/A", MOST_CHANGED = 10;
const WHAT_WORDS = { operators: [phrase("operator"), phrase("operators")], kernels: [phrase("kernel"), phrase("kernels")] };
const SIDE_BOTH = 0, SIDE_BASE = 1, SIDE_COMPARE = 2;

// The operators of a device: those of both runs in the order of time, as mem_parser/web/scopecompare.py packs them.
class Operators {
  constructor(packed) {
    const { head, columns } = unpackTree(packed);
    this.names = head.names;
    this.leftOut = head.left_out;
    this.name = columns.get("name");
    this.side = columns.get("side");
    this.size = this.name.length;
    this.place = new Float64Array(this.size);
    for (let k = 0, at = 0; k < this.size; k += 1) this.place[k] = at += columns.get("step")[k];
    this.base = Operators.signed(columns.get("base"));
    this.compare = Operators.signed(columns.get("compare"));
    const order = this.names.map((_, k) => k).sort((a, b) => NAME_ORDER.compare(this.names[a], this.names[b]));
    this.rank = new Float64Array(order.length);
    order.forEach((name, k) => { this.rank[name] = k; });
  }

  static signed(column) {
    const found = new Float64Array(column.length);
    for (let k = 0; k < column.length; k += 1) found[k] = column[k] % 2 ? -(column[k] + 1) / 2 : column[k] / 2;
    return found;
  }

  // All rows, or those that differ: what has no partner does.
  rows(differing) {
    const found = [];
    for (let k = 0; k < this.size; k += 1) if (!differing || this.side[k] !== SIDE_BOTH || this.base[k] !== this.compare[k]) found.push(k);
    return found;
  }
}

const NAME_ORDER = new Intl.Collator("en");

function sideText(value) {
  return value === null ? NOTHING : bytesText(value);
}

function changeOfPair(base, compare) {
  return (compare ?? 0) - (base ?? 0);
}

function differenceText(change) {
  return change === 0 ? "0 B" : signedText(change, "space");
}

function differenceCell(change) {
  return element("span", change > 0 ? "grown" : change < 0 ? "shrunk" : "faint", differenceText(change));
}

function differs([base, compare]) {
  return base !== compare;
}

class ComparePage {
  constructor({ facts, devices, operators: packed }) {
    Object.assign(this, { facts, packed, devices: unpackJson(devices) });
    this.operators = [];
    this.kept = {};
    [this.one, this.what] = WHAT_WORDS[this.facts.what];
    const { one, what } = this;
    const tabs = [["summary", phrase("Summary")], ["names", phrase("By {what}", { what: one })], ["modules", phrase("By module")], ["operators", phrase("All {what}", { what })]];
    this.state = new State({
      theme: setting.choice("auto", ["auto", "light", "dark"]),
      tab: setting.choice("summary", tabs.map(([key]) => key)),
      device: setting.number(0, this.devices.length),
      differing: setting.flag(false),
    }, () => this.refresh());
    document.getElementById("header").append(titleLine(this.facts.title, this.state), ...headerLines(this.facts));
    this.tabs = new Tabs(document.getElementById("tabs"), document.getElementById("panels"), tabs, this.state, phrase("Parts of the comparison"));
    this.filled = {};
    this.makeChoice(document.getElementById("choice"));
  }

  makeChoice(host) {
    if (this.devices.length > 1) {
      const control = choiceControl(phrase("Device"), this.devices.map(({ device }, k) => [k, device]), this.state.get("device"), (text) => this.state.set({ device: Number(text) }, { step: true }));
      control.dataset.choice = "device";
      host.append(control);
    }
    const turn = () => this.state.set({ differing: !this.state.get("differing") });
    this.toggle = toggleControl("only-differences", phrase("Only differences"), phrase("Rows whose sides differ, or that have no partner (d)"), turn);
    host.append(this.toggle);
    new Keys({ d: turn }, () => this.state.get("tab") !== "summary");
  }

  get device() {
    return this.devices[this.state.get("device")];
  }

  get aligned() {
    const number = this.state.get("device");
    return this.operators[number] ??= new Operators(this.packed[number]);
  }

  refresh() {
    applyTheme(this.state.get("theme"));
    const tab = this.state.get("tab"), differing = this.state.get("differing");
    this.tabs.show(tab);
    const { device, both, alone } = this.device;
    document.querySelector(".headline").textContent = phrase("Device {device}: {both} {what} in both, {base} only in base, {compare} only in compare", {
      device, both: countText(both), what: this.what, base: countText(alone[0]), compare: countText(alone[1]),
    });
    this.toggle.hidden = tab === "summary";
    this.toggle.setAttribute("aria-pressed", String(differing));
    const select = document.querySelector("[data-choice=device] select");
    if (select) select.value = String(this.state.get("device"));
    const key = `${this.state.get("device")} ${tab !== "summary" && differing}`;
    if (this.filled[tab] === key) return;
    this.filled[tab] = key;
    const host = this.tabs.panels[tab];
    host.replaceChildren();
    const makers = { summary: () => this.summary(host), names: () => this.nameTable(host), modules: () => this.moduleTable(host), operators: () => this.operatorTable(host) };
    makers[tab]();
  }

  summary(host) {
    const { peaks, modules, names } = this.device;
    host.append(element("div", "key-numbers", null, peaks.map(([kind, base, compare]) => {
      const number = element("div", "key-number", null, [
        element("span", "key-value", sideText(compare)), differenceCell(changeOfPair(base, compare)),
        element("span", "key-label", phrase("peak of {kind}, base {size}", { kind, size: sideText(base) }))]);
      number.dataset.kind = kind;
      return number;
    })));
    const grid = element("div", "panels");
    const changed = (title, rows, label, pair, tab) => {
      const found = rows.map((row) => [row, changeOfPair(...pair(row))]).filter(([, change]) => change !== 0)
        .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, MOST_CHANGED);
      const bars = found.map(([row, change]) => ({
        label: label(row), share: Math.abs(change) / Math.abs(found[0][1]), tone: change > 0 ? "grown" : "shrunk",
        text: differenceText(change), hint: `${label(row)}: ${phrase("{from} to {to}", { from: sideText(pair(row)[0]), to: sideText(pair(row)[1]) })}`,
      }));
      const more = element("button", "link", phrase("All of them"));
      more.type = "button";
      more.addEventListener("click", () => this.tabs.open(tab));
      grid.append(panel(title, found.length ? [barRows(bars), more] : [element("p", "faint", phrase("nothing changed"))]));
    };
    changed(phrase("Modules that changed most at the peak"), modules, moduleName, ([, , base, compare]) => [base, compare], "modules");
    changed(this.facts.what === "kernels" ? phrase("Kernels that changed most") : phrase("Operators that changed most"), names, ([name]) => name, ([, , , base, compare]) => [base, compare], "names");
    host.append(grid);
  }

  // base, compare and difference as columns; pair: what a row has of both
  columns(pair, prefix = "", title = "", labels = [english("Base"), english("Compare"), english("Difference")]) {
    const change = (row) => changeOfPair(...pair(row));
    const side = (key, label, k) => ({
      key: `${prefix}${key}`, label, title, kind: "number", none: NOTHING, value: (row) => pair(row)[k], text: (row) => sideText(pair(row)[k]),
    });
    return [
      side("base", labels[0], 0), side("compare", labels[1], 1),
      { key: `${prefix}change`, label: labels[2], title, kind: "number", value: change, text: (row) => differenceText(change(row)), cell: (row) => differenceCell(change(row)) },
    ];
  }

  get nameLabel() {
    return this.facts.what === "kernels" ? english("Kernel") : english("Operator");
  }

  nameTable(host) {
    const { names, names_left_out: leftOut } = this.device;
    const pair = ([, , , base, compare]) => [base, compare];
    const calls = (key, label, k) => ({ key, label, kind: "number", value: (row) => row[k], text: (row) => countText(row[k]) });
    const columns = [
      { key: "name", label: this.nameLabel, kind: "text", main: true, text: (row) => row[0], hint: (row) => row[0] },
      calls("base-calls", english("Base calls"), 1), calls("compare-calls", english("Compare calls"), 2), ...this.columns(pair),
    ];
    const rows = this.state.get("differing") ? names.filter((row) => differs(pair(row)) || row[1] !== row[2]) : names;
    const note = leftOut ? phrase("; {number} names that changed less are not on this page", { number: countText(leftOut) }) : "";
    host.append(element("p", "faint", phrase("Bytes of the events of the pool behind the {what} of a name, negative for frees; the largest change first{more}.", { what: this.what, more: note })));
    new DataTable(host, columns, rows, { search: (row) => row[0], name: "names", kept: this.kept.names ??= {} });
  }

  moduleTable(host) {
    const { modules, modules_left_out: leftOut } = this.device;
    const atPeak = ([, , base, compare]) => [base, compare], inAll = (row) => [row[4], row[5]];
    const columns = [
      { key: "module", label: english("Module"), kind: "text", main: true, text: moduleName, hint: moduleName },
      ...this.columns(atPeak, "at peak", phrase("In use at the highest moment"), [english("Base at peak"), english("Compare at peak"), english("Difference at peak")]),
      ...this.columns(inAll, "in all", phrase("Allocated in all"), [english("Base in all"), english("Compare in all"), english("Difference in all")]),
    ];
    const rows = this.state.get("differing") ? modules.filter((row) => differs(atPeak(row)) || differs(inAll(row))) : modules;
    const note = leftOut ? phrase("; {number} modules that changed less are not on this page", { number: countText(leftOut) }) : "";
    host.append(element("p", "faint", phrase("What each owner had in use at the peak of its memory, and allocated in all; the largest change at the peak first{more}.", { more: note })));
    new DataTable(host, columns, rows, { search: moduleName, name: "modules", kept: this.kept.modules ??= {} });
  }

  operatorTable(host) {
    const all = this.aligned, { leftOut } = all;
    const pair = (k) => [all.side[k] === SIDE_COMPARE ? null : all.base[k], all.side[k] === SIDE_BASE ? null : all.compare[k]];
    const columns = [
      { key: "place", label: "#", title: phrase("Place among the operators of both, in the order of time"), kind: "number", value: (k) => all.place[k], text: (k) => countText(all.place[k] + 1) },
      { key: "name", label: this.nameLabel, kind: "text", main: true, text: (k) => all.names[all.name[k]], hint: (k) => all.names[all.name[k]], rank: (k) => all.rank[all.name[k]] },
      ...this.columns(pair),
    ];
    const words = [phrase("The {what} of both in the order of time, each with its partner; {none} has none", { what: this.what, none: NOTHING })];
    if (leftOut.rows) words.push(phrase("{number} that change least are not on this page ({differing} of them differ)", { number: countText(leftOut.rows), differing: countText(leftOut.differing) }));
    host.append(element("p", "faint", `${words.join("; ")}.`));
    new LongTable(host, columns, all.rows(this.state.get("differing")), { search: (k) => all.names[all.name[k]], name: "operators", kept: this.kept.operators ??= {} });
  }
}

function moduleName([kind, owner]) {
  return owner === kind || owner.startsWith(`${kind}@`) ? owner : `${kind} ${owner}`;
}

startPage((data) => {
  new ComparePage(data).refresh();
  document.documentElement.dataset.ready = "1";
});
