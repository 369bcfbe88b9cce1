// Focus, ignore and hide, as mem_parser/filters.py has them: a frame matches by its function's name or full name, by a
// file or by the module. Focus and ignore keep or drop stacks whole; hide takes frames out of stacks, whose blocks stay.
// Labels (names of threads and tasks) are frames that are taken out before all else unless they are shown.

const BOXES = ["focus", "ignore", "hide"];
const LONGEST_PATTERN = 300;

// Asks about all expressions of a state; returns the promise of the answers.
function askAll(profile, { focus, ignore, hide, q }) {
  return Promise.all([...[focus, ignore, hide].filter(Boolean).map((text) => profile.answers.ask(text)), ...q ? [profile.answers.ask(q, foldsCase(q))] : []]);
}

// The profile as the boxes narrow it.
class Narrowing {
  constructor(profile) {
    this.labelled = this.whole = profile;
    this.unlabelled = null;
    this.key = "";
    this.profile = profile;
  }

  // The profile with or without its labels; of a log, in the part of the time that is chosen.
  wholeOf(values) {
    const { times, hasLabels } = this.labelled;
    if (times) return times.of(this.labelled, values);
    if (values.labels || !hasLabels) return this.labelled;
    if (!this.unlabelled) {
      this.whole = this.labelled;
      this.unlabelled = this.narrowed(null, null, Uint8Array.from(this.labelled.kind, (kind) => kind & KIND_LABEL ? 1 : 0));
    }
    return this.unlabelled;
  }

  // Why the expression cannot be used; empty: it can.
  problem(text) {
    return text ? this.labelled.answers.of(text)?.problem ?? "" : "";
  }

  // Whether there is no answer yet for a box of the state; `then` is called when there is.
  waits(values, then) {
    const { answers } = this.labelled;
    const open = BOXES.map((name) => values[name]).filter((text) => text && !answers.of(text));
    if (open.length) Promise.all(open.map((text) => answers.ask(text))).then(then);
    return open.length > 0;
  }

  // The test of a box, if its expression can be used.
  testOf(values, name) {
    return values[name] ? this.labelled.answers.of(values[name])?.test ?? null : null;
  }

  // The boxes with an expression that can be used, how functions are called, whether labels are shown, and the part of the
  // time.
  keyOf(values) {
    const time = [values.from, values.to, values.count === "change"];
    return JSON.stringify([...BOXES.map((name) => this.testOf(values, name) ? values[name] : ""), values.templates, values.labels, ...time]);
  }

  // The narrowed profile for the state's values; an expression that cannot be used counts as none.
  of(values) {
    const key = this.keyOf(values);
    if (key === this.key) return this.profile;
    this.key = key;
    this.whole = this.wholeOf(values);
    const [focus, ignore, hide] = BOXES.map((name) => {
      const test = this.testOf(values, name);
      return test && this.matchedNodes(test, values.templates);
    });
    this.narrows = Boolean(focus || ignore || hide);
    this.profile = this.narrows ? this.narrowed(focus, ignore, hide) : this.whole;
    return this.profile;
  }

  // Which nodes match by function, file or module. Entry 0 is the root, which is no frame; what was left out has no names.
  matchedNodes(test, templates) {
    const { size, entry, lineFile, entries, files } = this.whole;
    const { full, file, module, [templates ? "whole" : "short"]: shown } = entries;
    const inFile = files.map(test);
    const inEntry = shown.map((name, k) => k > 0 && !this.whole.isRest(k) && (test(name) || test(full[k]) || inFile[file[k]] || test(module[k])));
    const matched = new Uint8Array(size);
    for (let node = 1; node < size; node += 1) matched[node] = Number(inEntry[entry[node]] || inFile[lineFile[node]] && !this.whole.isRest(entry[node]));
    return matched;
  }

  narrowed(focus, ignore, hide) {
    const { whole } = this;
    const focused = focus && this.below(focus), ignored = ignore && this.below(ignore);
    this.undecided = new Uint8Array(whole.size);
    const kept = new Uint8Array(whole.size).fill(1);
    for (let node = 0; node < whole.size; node += 1) {
      if (focused && !focused[node] || ignored?.[node]) kept[node] = 0;
      if (whole.isRest(whole.entry[node]) && (focused && !focused[node] && !ignored?.[node] || ignored && kept[node])) this.undecided[node] = 1;
    }
    const made = Object.create(whole);
    const holder = hide ? this.cutOut(made, hide) : null;
    made.rows = Narrowing.keepRows(whole.rows, kept, holder);
    made.threadRows = Narrowing.keepRows(whole.threadRows, kept, holder);
    return made;
  }

  // For each node whether it or a caller is matched.
  below(matched) {
    const { size, parent } = this.whole;
    const found = Uint8Array.from(matched);
    for (let node = 1; node < size; node += 1) found[node] |= found[parent[node]];
    return found;
  }

  // Links callees of hidden frames to the nearest caller that is not; returns for each node where its blocks are then.
  // A stack of hidden frames alone becomes one frame, behind all others.
  cutOut(made, hide) {
    const { whole } = this;
    const size = whole.size + 1, alone = whole.size;
    const holder = new Int32Array(whole.size);
    const longer = (column, last, Type = column.constructor) => {
      const longerOne = new Type(size);
      longerOne.set(column);
      longerOne[alone] = last;
      return longerOne;
    };
    made.parent = longer(whole.parent, 0);
    for (let node = 1; node < whole.size; node += 1) {
      holder[node] = hide[node] ? holder[whole.parent[node]] : node;
      made.parent[node] = holder[whole.parent[node]];
    }
    for (let node = 1; node < whole.size; node += 1) if (!holder[node]) holder[node] = alone;
    made.size = size;
    made.line = longer(whole.line, 0);
    made.lineFile = longer(whole.lineFile, 0);
    made.inlined = longer(whole.inlined, 0);
    made.kind = longer(whole.kind, KIND_PSEUDO);
    made.entry = longer(whole.entry, 0);
    made.styles = Object.fromEntries(Object.entries(whole.styles).map(([style, names]) => [style, longer(names, whole.hiddenName)]));
    return holder;
  }

  static keepRows(rows, kept, holder) {
    const chosen = [];
    for (let k = 0; k < rows.size; k += 1) if (kept[rows.node[k]]) chosen.push(k);
    const pick = (column) => {
      const picked = new column.constructor(chosen.length);
      for (let k = 0; k < chosen.length; k += 1) picked[k] = column[chosen[k]];
      return picked;
    };
    const node = pick(rows.node);
    if (holder) for (let k = 0; k < node.length; k += 1) node[k] = holder[node[k]];
    const counts = {};
    for (const [kind, columns] of Object.entries(rows.counts)) counts[kind] = columns.map(pick);
    return { node, counts, domain: pick(rows.domain), thread: pick(rows.thread), size: chosen.length };
  }
}
