// The numbers behind the report's tables: by function, module, domain and thread, of the tree. Blocks are charged to the
// innermost frame outside the allocator (own); a function's total is every stack it is on, once however often it recurs
// there. An amount is [value, lower, upper], the latter the ends of the 95 % interval: null where they are not known.

const MOST_FUNCTIONS = 3000;

class ReportTables {
  // whole: what only the file knows (mem_parser/web/report.py); facts: { exact, unseen, start }; isWhole: the profile is all
  // that the file has
  constructor(profile, whole, templates, facts, isWhole = false) {
    Object.assign(this, { profile, whole, facts, isWhole });
    this.name = profile.styles[styleKey({ lines: false, templates })];
    this.tree = ReportTables.treeOf(profile, this.name);
    this.charged = this.tree.charged;
    this.domain = facts.start.apart ? 0 : -1;
  }

  // What follows from the tree alone, and not from its numbers, is kept: windows of a log have one tree.
  static treeOf(profile, name) {
    const { last } = ReportTables;
    if (last?.parent === profile.parent && last.name === name) return last;
    const charged = chargedNodes(profile, { hideAllocators: true, hideImports: false });
    return ReportTables.last = { parent: profile.parent, name, charged };
  }

  // Nothing but the file knows the sizes of blocks, and its totals are exact. `counts`: of which functions, modules and
  // domains are wanted. Each table is made when it is first asked for.
  make(counts) {
    const { profile } = this;
    const measures = Object.keys(this.whole.totals).filter((measure) => profile.counts.includes(measure.split(".")[0]));
    if (profile.window) measures.push("change.space", "change.objects");
    const byCount = (make) => Object.fromEntries(counts.map((count) => [count, make(count)]));
    const makers = {
      functions: () => this.functions(measures.filter((measure) => counts.includes(measure.split(".")[0]))),
      modules: () => byCount((count) => this.modules(count)),
      sizes: () => this.isWhole ? this.whole.sizes : {},
      domains: () => byCount((count) => this.groups(profile.rows, count === "change" ? [] : profile.partsOf(count), (rows, k) => rows.domain[k], profile.domains)),
      threads: () => this.groups(profile.threadRows, ["inuse"], (rows, k) => rows.thread[k] - 1, profile.threads),
      totals: () => this.isWhole ? this.whole.totals : this.totals(measures),
    };
    const made = {};
    for (const [name, make] of Object.entries(makers)) {
      let table = null;
      Object.defineProperty(made, name, { get: () => table ??= make() });
    }
    return made;
  }

  // Of a change, `independent` is the variance that it would have if its sides had nothing in common: it is no larger.
  amount(value, variance, samples, unit, independent = null) {
    if (!this.facts.exact) return [value, null, null];
    if (independent !== null && !samples) return [value, null, null];
    if (independent !== null) {
      const [lower, upper] = changeInterval95(value, Math.min(variance, independent), this.facts.unseen[unit]);
      return Number.isFinite(lower) ? [value, lower, upper] : [value, null, null];
    }
    const [lower, upper] = interval95(value, variance, samples, this.facts.unseen[unit]);
    return [value, lower, upper === Infinity ? null : upper];
  }

  // The columns of a count, in the order that `amount` takes them.
  partsOf(count) {
    return count === "change" ? ["value", "variance", "samples", "independent"] : ["value", "variance", "samples"];
  }

  measured(count, unit) {
    const own = this.profile.measure({ count, unit, thread: -1, domain: this.domain, diff: false });
    if (count !== "change") return own;
    return {
      value: own.value.map((value, node) => value - own.base[node]), variance: own.between,
      samples: own.width.map((width) => width > 0 ? 1 : 0),
      independent: own.variance.map((variance, node) => variance + own.baseVariance[node]),
    };
  }

  totals(measures) {
    const sum = (column) => column.reduce((a, b) => a + b, 0);
    return Object.fromEntries(measures.map((kind) => {
      const [count, unit] = kind.split(".");
      const own = this.measured(count, unit);
      const [value, variance, samples, ...more] = this.partsOf(count).map((part) => sum(own[part]));
      return [kind, this.amount(value, variance, samples, unit, ...more)];
    }));
  }

  // For each node its function's number, alike for functions that are called alike.
  functionNumbers() {
    return this.tree.numbers ??= this.makeNumbers();
  }

  makeNumbers() {
    const numbers = new Map();
    const ids = [];
    const ofName = new Map();
    const of = Int32Array.from(this.name, (name) => {
      if (!ofName.has(name)) {
        const text = this.profile.names[name];
        if (!numbers.has(text)) { numbers.set(text, ids.length); ids.push(name); }
        ofName.set(name, numbers.get(text));
      }
      return ofName.get(name);
    });
    return { of, ids };
  }

  // Which nodes are the outermost frame of their function on their stack.
  outermostOfAll(of, count) {
    return this.tree.outermost ??= this.findOutermost(of, count);
  }

  findOutermost(of, count) {
    const { size, parent } = this.profile;
    const on = new Int32Array(count), path = [];
    const outermostHere = new Uint8Array(size);
    for (let node = 1; node < size; node += 1) {
      while (path.length && path[path.length - 1] !== parent[node]) on[of[path.pop()]] -= 1;
      if (!on[of[node]]) outermostHere[node] = 1;
      on[of[node]] += 1;
      path.push(node);
    }
    return outermostHere;
  }

  functions(measures) {
    const { size, parent } = this.profile;
    const { of, ids } = this.functionNumbers();
    const outer = this.outermostOfAll(of, ids.length);
    const keys = measures.flatMap((measure) => [`${measure}.own`, `${measure}.total`]);
    const columns = new Map();
    const weight = new Float64Array(ids.length);
    for (const kind of measures) {
      const [count, unit] = kind.split(".");
      const measured = this.measured(count, unit);
      const made = this.partsOf(count).map((part) => {
        const own = new Float64Array(ids.length), total = new Float64Array(ids.length), below = new Float64Array(size);
        for (let node = 0; node < size; node += 1) below[this.charged[node]] += measured[part][node];
        for (let node = 1; node < size; node += 1) own[of[node]] += below[node];
        for (let node = size - 1; node > 0; node -= 1) {
          below[parent[node]] += below[node];
          if (outer[node]) total[of[node]] += below[node];
        }
        return { own, total, whole: below[0] };
      });
      for (const key of ["own", "total"]) columns.set(`${kind}.${key}`, [unit, ...made.map((part) => part[key])]);
      const most = count === "change" ? made[0].total.reduce((a, b) => Math.max(a, Math.abs(b)), 0) : made[0].whole;
      for (let k = 0; k < ids.length; k += 1) weight[k] = Math.max(weight[k], Math.abs(made[0].total[k]) / (most || 1));
    }
    const order = [...ids.keys()].filter((k) => weight[k] > 0).sort((a, b) => weight[b] - weight[a]);
    const rows = order.slice(0, MOST_FUNCTIONS).map((k) => ({
      name: this.profile.names[ids[k]], file: this.profile.nameFile[ids[k]], module: this.profile.nameModule[ids[k]],
      ...Object.fromEntries(keys.map((key) => {
        const [unit, value, variance, samples, ...more] = columns.get(key).map((part) => typeof part === "string" ? part : part[k]);
        return [key, this.amount(value, variance, samples, unit, ...more)];
      })),
    }));
    return { rows, left_out: Math.max(order.length - MOST_FUNCTIONS, 0) };
  }

  // What the functions of each module own.
  modules(count) {
    const { profile } = this;
    const found = new Map();
    for (const unit of ["space", "objects"]) {
      const own = this.measured(count, unit);
      for (let node = 0; node < profile.size; node += 1) {
        if (!(own.samples[node] > 0)) continue;
        const module = profile.nameModule[this.name[this.charged[node]]];
        const parts = this.partsOf(count);
        if (!found.has(module)) found.set(module, { space: parts.map(() => 0), objects: parts.map(() => 0) });
        parts.forEach((part, k) => { found.get(module)[unit][k] += own[part][node]; });
      }
    }
    return this.groupRows([...found].map(([name, sums], index) => ({ index, name, ...sums })));
  }

  // What the rows hold by a number of each, in these parts of a count; labels are by that number.
  groups(rows, parts, numberOf, labels) {
    const found = labels.map((name, index) => ({ index, name, space: [0, 0, 0], objects: [0, 0, 0] }));
    for (const part of parts) this.addTo(found, rows, rows.counts[part], numberOf);
    return this.groupRows(found);
  }

  addTo(found, rows, columns, numberOf) {
    for (let k = 0; columns && k < rows.size; k += 1) {
      const group = found[numberOf(rows, k)];
      if (!group) continue;
      [[group.space, BYTES], [group.objects, OBJECTS]].forEach(([sums, first]) => {
        sums[0] += columns[first][k];
        sums[1] += columns[first + 1][k];
        sums[2] += columns[SAMPLES][k];
      });
    }
  }

  amountOf([value, variance, samples, ...more], unit) {
    return this.amount(value, variance, samples, unit, ...more);
  }

  groupRows(groups) {
    return groups.filter((group) => group.space[2] > 0).map(({ index, name, space, objects }) => ({
      index, name, bytes: this.amountOf(space, "space"), objects: this.amountOf(objects, "objects"), samples: space[2],
    })).sort((a, b) => b.bytes[0] - a.bytes[0]);
  }
}
