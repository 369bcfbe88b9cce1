// The profile as the page holds it: the tree of all stacks in preorder, and rows of what was allocated where.
// `measure` turns the rows into one set of numbers per node, for the count, thread and domain that the reader chose.

const KIND_ALLOCATOR = 1, KIND_IMPORT = 2, KIND_PSEUDO = 4, KIND_LIBRARY = 8, KIND_WRAPPER = 16, KIND_LABEL = 32;
const KIND_RUNTIME = 64, KIND_NAMELESS = 128, KIND_HEADER = 256;
const BYTES = 0, BYTES_VARIANCE = 1, OBJECTS = 2, OBJECTS_VARIANCE = 3, SAMPLES = 4;

const REST_FRAME = "[narrower frames]";

const PRESENCE = ["resident", "huge", "swapped"];
const COUNT_PARTS = {
  inuse: ["inuse"], freed: ["freed"], alloc: ["inuse", "freed"], peak: ["peak"], resident: ["resident"], huge: ["huge"],
  swapped: ["swapped"],
};
// Change: of a part of a log's time, what is in use at its end against what was at its beginning.
const COUNT_WORDS = {
  inuse: phrase("in use"), freed: phrase("freed"), alloc: phrase("allocated"), peak: phrase("in use at the peak"), change: phrase("change in use"),
  resident: phrase("resident"), huge: phrase("on huge pages"), swapped: phrase("swapped"),
};

// What is counted: the file knows the threads of blocks in use alone.
function countOf({ count, thread }) {
  return thread >= 0 ? "inuse" : count;
}

// What follows an amount: "4.64 MiB in use", "78 blocks in use".
function measureWords(count, unit) {
  return unit === "objects" ? phrase("blocks {what}", { what: COUNT_WORDS[ofBlocks(count)] }) : COUNT_WORDS[count];
}

// What is resident, huge or swapped are bytes of the blocks in use: a number of blocks is of these.
function ofBlocks(count) {
  return PRESENCE.includes(count) ? "inuse" : count;
}

// What the numbers of a tab are: "bytes in use", "change of bytes in use".
function countedWords(count, unit) {
  const what = unit === "space" ? phrase("bytes") : phrase("blocks");
  return count === "change" ? phrase("change of {what} in use", { what }) : phrase("{what} {count}", { what, count: COUNT_WORDS[unit === "space" ? count : ofBlocks(count)] });
}

class Profile {
  // times: the packed times of a log, or null
  constructor(packed, times = null) {
    const { head, columns } = unpackTree(packed);
    this.domains = head.domains;
    this.threads = head.threads;
    this.kinds = head.kinds;
    this.depth = columns.get("depth");
    this.entry = columns.get("name");
    this.line = columns.get("line");
    this.inlined = columns.get("inlined");
    this.size = this.depth.length;
    this.parent = new Int32Array(this.size).fill(-1);
    this.linkParents();
    this.rows = this.readRows(columns, "row", head.kinds);
    this.threadRows = this.readRows(columns, "thread", ["inuse"]);
    this.hasDiff = head.kinds.some((kind) => kind.startsWith("base_"));
    this.readFunctions(head, columns.get("place"));
    this.times = times && new Times(times);
    this.answers = new Answers(() => this.texts);
  }

  // All that an expression may match: names, files, modules, and files with a line.
  get texts() {
    const { names, files, entries: { full, module }, line } = this;
    const places = new Set();
    for (let node = 1; node < this.size; node += 1) if (line[node] > 0) places.add(this.lineText(node));
    return [...new Set([...names, ...files, ...full, ...module, ...places])];
  }

  lineText(node) {
    return `${this.files[this.lineFile[node]]}:${this.line[node]}`;
  }

  // `entries`: the functions by their full names, of which `entry` has one a node; `lineFile`: the file of each node's line.
  readFunctions(head, place) {
    this.entries = {
      short: head.functions, whole: head.functions.map((name, k) => head.whole[k] || name),
      full: head.functions.map((name, k) => head.full[k] || name),
      file: head.file, module: head.module.map((k) => head.modules[k]), kind: Uint16Array.from(head.kind),
    };
    this.files = head.files;
    this.lineFile = place.map((k, node) => k > 0 ? k - 1 : head.file[this.entry[node]]);
    this.kind = Uint16Array.from(this.entry, (k) => head.kind[k]);
    this.rest = Uint8Array.from(head.functions, (name, k) => name === REST_FRAME && head.kind[k] === KIND_PSEUDO ? 1 : 0);
    const table = new NameTable(head, this.entry, this.line);
    this.styles = table.styles;
    this.hiddenName = table.hidden;
    this.names = table.names;
    this.nameFile = table.file;
    this.nameModule = table.module;
    this.nameKind = Uint16Array.from(table.kind);
    this.functionOf = table.functionOf;
    this.lineOf = table.lineOf;
    this.plainName = table.plain;
    this.hasLines = table.hasLines;
    this.hasTemplates = table.hasTemplates;
    this.hasLabels = this.kind.some((kind) => kind & KIND_LABEL);
    this.name = this.styles[""];
  }

  // Whether an entry stands for frames that are not in the page.
  isRest(entry) {
    return this.rest[entry] === 1;
  }

  // How nodes are called: { lines, templates }.
  callBy(style) {
    this.name = this.styles[styleKey(style)];
  }

  linkParents() {
    const path = new Int32Array(this.depth.reduce((a, b) => Math.max(a, b), 0) + 1);
    for (let node = 0; node < this.size; node += 1) {
      const depth = this.depth[node];
      path[depth] = node;
      if (depth > 0) this.parent[node] = path[depth - 1];
    }
  }

  readRows(columns, prefix, kinds) {
    const step = columns.get(`${prefix}.step`);
    const node = new Int32Array(step.length);
    for (let k = 0, at = 0; k < step.length; k += 1) node[k] = at += step[k];
    const counts = {};
    for (const kind of kinds) counts[kind] = [0, 1, 2, 3, 4].map((k) => columns.get(`${prefix}.${kind}.${k}`));
    return {
      node, counts, domain: columns.get(`${prefix}.domain`), thread: columns.get(`${prefix}.thread`),
      size: step.length,
    };
  }

  // Which counts the file has.
  get counts() {
    const found = Object.keys(COUNT_PARTS).filter((count) => COUNT_PARTS[count].every((part) => this.kinds.includes(part)));
    return this.times ? [...found, "change"] : found;
  }

  // Which of the rows' numbers a count adds up. A part of the time has each of its counts by itself.
  partsOf(count) {
    if (this.window) return [count === "change" ? "inuse" : count];
    return COUNT_PARTS[count] ?? COUNT_PARTS.inuse;
  }

  // Whether the numbers have two sides.
  compares({ count, thread, diff }) {
    return thread < 0 && (this.window ? count === "change" : diff && this.hasDiff);
  }

  // Own numbers of every node. options: count, unit, thread (-1: all), domain (-1: all), diff.
  // `width` is what is drawn: the value, or in a difference the larger of both sides, so that nothing vanishes.
  measure({ count, unit, thread, domain, diff }) {
    const own = {
      value: new Float64Array(this.size), variance: new Float64Array(this.size),
      samples: new Float64Array(this.size), width: null, base: null, baseVariance: null, between: null,
    };
    const byThread = thread >= 0;
    const rows = byThread ? this.threadRows : this.rows;
    const parts = this.partsOf(countOf({ count, thread }));
    const only = (k) => (domain < 0 || rows.domain[k] === domain) && (!byThread || rows.thread[k] === thread + 1);
    this.addRows(rows, parts, unit, only, own.value, own.variance, own.samples);
    own.width = own.value;
    if (this.compares({ count, thread, diff })) this.addBase(own, parts, unit, only);
    return own;
  }

  addBase(own, parts, unit, only) {
    const baseParts = parts.map((part) => `base_${part}`).filter((part) => this.kinds.includes(part));
    own.base = new Float64Array(this.size);
    own.baseVariance = new Float64Array(this.size);
    this.addRows(this.rows, baseParts, unit, only, own.base, own.baseVariance, null);
    own.width = own.value.map((value, node) => Math.max(value, own.base[node]));
    // Snapshots of one capture: what is alive in both cancels, births and deaths are all the doubt there is.
    if (!parts.includes("inuse") || parts.length > 1 || !this.kinds.includes("between")) return;
    own.between = new Float64Array(this.size);
    this.addRows(this.rows, ["between"], unit, only, new Float64Array(this.size), own.between, null);
  }

  addRows(rows, parts, unit, only, value, variance, samples) {
    const column = unit === "objects" ? OBJECTS : BYTES;
    for (const part of parts) {
      const columns = rows.counts[part];
      if (!columns) continue;
      const amounts = columns[column], variances = columns[column + 1], taken = columns[SAMPLES];
      for (let k = 0; k < rows.size; k += 1) {
        if (!only(k)) continue;
        const node = rows.node[k];
        value[node] += amounts[k];
        variance[node] += variances[k];
        if (samples) samples[node] += taken[k];
      }
    }
  }

  // "file.c:12", "file.c" or "".
  place(name, line) {
    const file = this.nameFile[name];
    if (!file) return "";
    const known = this.lineOf[name] || line;
    return known > 0 ? `${file}:${known}` : file;
  }
}
