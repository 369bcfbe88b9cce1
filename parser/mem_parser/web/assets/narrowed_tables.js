// The tables of the report for a part of the profile, or with other names: made of the tree, in the form that
// mem_parser/web/tables.py gives for the whole.

const MOST_FUNCTIONS = 3000;

class NarrowedTables {
  // whole: the tables of the whole profile; facts: { exact, unseen, start }
  constructor(profile, whole, templates, facts) {
    Object.assign(this, { profile, whole, facts });
    this.name = profile.styles[styleKey({ lines: false, templates })];
    this.charged = chargedNodes(profile, { hideAllocators: true, hideImports: false });
    this.domain = facts.start.apart ? 0 : -1;
  }

  // Nothing but the file knows the sizes of blocks.
  make() {
    const { profile } = this;
    const measures = Object.keys(this.whole.totals).filter((measure) => profile.counts.includes(measure.split(".")[0]));
    const byCount = (make) => Object.fromEntries(profile.counts.map((count) => [count, make(count)]));
    return {
      functions: this.functions(measures), modules: byCount((count) => this.modules(count)), sizes: {},
      domains: byCount((count) => this.groups(profile.rows, COUNT_PARTS[count], (rows, k) => rows.domain[k], profile.domains)),
      threads: this.groups(profile.threadRows, ["inuse"], (rows, k) => rows.thread[k] - 1, profile.threads),
      totals: this.totals(measures),
    };
  }

  amount(value, variance, samples, unit) {
    if (!this.facts.exact) return [value, null, null];
    const [lower, upper] = interval95(value, variance, samples, this.facts.unseen[unit]);
    return [value, lower, upper === Infinity ? null : upper];
  }

  measured(count, unit) {
    return this.profile.measure({ count, unit, thread: -1, domain: this.domain, diff: false });
  }

  totals(measures) {
    const sum = (column) => column.reduce((a, b) => a + b, 0);
    return Object.fromEntries(measures.map((kind) => {
      const [count, unit] = kind.split(".");
      const own = this.measured(count, unit);
      return [kind, this.amount(sum(own.value), sum(own.variance), sum(own.samples), unit)];
    }));
  }

  // For each node its function's number, alike for functions that are called alike.
  functionNumbers() {
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
      const made = ["value", "variance", "samples"].map((part) => {
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
      for (let k = 0; k < ids.length; k += 1) weight[k] = Math.max(weight[k], made[0].total[k] / (made[0].whole || 1));
    }
    const order = [...ids.keys()].filter((k) => weight[k] > 0).sort((a, b) => weight[b] - weight[a]);
    const rows = order.slice(0, MOST_FUNCTIONS).map((k) => ({
      name: this.profile.names[ids[k]], file: this.profile.nameFile[ids[k]], module: this.profile.nameModule[ids[k]],
      ...Object.fromEntries(keys.map((key) => {
        const [unit, ...parts] = columns.get(key);
        return [key, this.amount(...parts.map((part) => part[k]), unit)];
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
        if (!found.has(module)) found.set(module, { space: [0, 0, 0], objects: [0, 0, 0] });
        ["value", "variance", "samples"].forEach((part, k) => { found.get(module)[unit][k] += own[part][node]; });
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

  groupRows(groups) {
    return groups.filter((group) => group.space[2] > 0).map(({ index, name, space, objects }) => ({
      index, name, bytes: this.amount(...space, "space"), objects: this.amount(...objects, "objects"), samples: space[2],
    })).sort((a, b) => b.bytes[0] - a.bytes[0]);
  }
}
