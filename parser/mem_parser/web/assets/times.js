// A part of a log's time: what came and went at each node between moments, as mem_parser/web/times.py packs it, added up
// for the window of two moments that the reader chose.

class Times {
  // kinds of numbers: for each entry the sum up to its moment
  constructor(packed) {
    const { head, columns } = unpackTree(packed);
    this.head = head;
    this.moments = Float64Array.from(head.moments);
    this.last = this.moments.length - 1;
    this.domain = columns.get("pair.domain");
    this.size = this.domain.length;
    this.node = Times.sums(columns.get("pair.step"), Int32Array);
    const entries = columns.get("pair.entries");
    this.start = new Int32Array(this.size + 1);
    for (let pair = 0; pair < this.size; pair += 1) this.start[pair + 1] = this.start[pair] + entries[pair];
    this.moment = this.sumsOfPairs(columns.get("moment"), 1, Uint16Array);
    this.born = this.readNumbers(columns, "born", (value) => value);
    this.live = this.readNumbers(columns, "live", (value) => value % 2 ? -(value + 1) / 2 : value / 2);
    this.key = "";
  }

  static sums(column, Type) {
    const made = new Type(column.length);
    for (let k = 0, at = 0; k < column.length; k += 1) made[k] = at += column[k];
    return made;
  }

  sumsOfPairs(column, unit, Type, read = (value) => value) {
    const made = new Type(column.length);
    for (let pair = 0; pair < this.size; pair += 1) {
      for (let k = this.start[pair], at = 0; k < this.start[pair + 1]; k += 1) made[k] = (at += read(column[k])) * unit;
    }
    return made;
  }

  // The five columns of Profile's rows. Where every block is a sample, objects are samples and nothing varies.
  readNumbers(columns, kind, read) {
    const { units, exact } = this.head;
    const found = [0, 1, 2, 3, 4].map((k) => columns.has(`${kind}.${k}`)
      ? this.sumsOfPairs(columns.get(`${kind}.${k}`), units[k], Float64Array, read) : null);
    if (exact) {
      found[OBJECTS] = found[SAMPLES];
      found[BYTES_VARIANCE] = found[OBJECTS_VARIANCE] = new Float64Array(this.moment.length);
    }
    return found;
  }

  window({ from, to }) {
    return { from: Math.min(from, to), to: Math.max(from, to) };
  }

  isWhole(values) {
    const { from, to } = this.window(values);
    return from === 0 && to === this.last;
  }

  // The moment in the window at which most was live in a domain; the first of several.
  highest(domain, { from, to }) {
    const totals = this.head.live_bytes[domain];
    let best = from;
    for (let k = from + 1; k <= to; k += 1) if (totals[k] > totals[best]) best = k;
    return best;
  }

  nearest(seconds) {
    const { moments } = this;
    let low = 0, high = this.last;
    while (low < high) {
      const middle = low + high >> 1;
      if (moments[middle] < seconds) low = middle + 1; else high = middle;
    }
    return low > 0 && seconds - moments[low - 1] <= moments[low] - seconds ? low - 1 : low;
  }

  // For each pair of node and domain its last entry up to a moment (of the pair's domain); -1: none.
  places(momentOf) {
    const { start, moment, domain, size } = this;
    const found = new Int32Array(size);
    for (let pair = 0; pair < size; pair += 1) {
      const wanted = momentOf(domain[pair]);
      let low = start[pair], high = start[pair + 1];
      while (low < high) {
        const middle = low + high >> 1;
        if (moment[middle] <= wanted) low = middle + 1; else high = middle;
      }
      found[pair] = low > start[pair] ? low - 1 : -1;
    }
    return found;
  }

  // What the file counts, in a window: made when it is asked for.
  counts(window) {
    const { born, live, size } = this;
    const made = {}, places = {};
    const at = (name, momentOf) => places[name] ??= this.places(momentOf);
    const from = () => at("from", () => window.from), to = () => at("to", () => window.to);
    const domains = this.head.live_bytes.map((_, domain) => this.highest(domain, window));
    const peak = () => at("peak", (domain) => domains[domain]);
    const every = (make) => {
      const numbers = new Float64Array(size);
      for (let k = 0; k < size; k += 1) numbers[k] = make(k);
      return numbers;
    };
    const pick = (columns, place) => columns.map((column) => every((k) => place[k] < 0 ? 0 : column[place[k]]));
    const makers = {
      inuse: () => pick(live, to()),
      base_inuse: () => pick(live, from()),
      peak: () => pick(live, peak()),
      alloc: () => {
        const before = from(), after = to();
        return born.map((column) => every((k) =>
          (after[k] < 0 ? 0 : column[after[k]]) - (before[k] < 0 ? 0 : column[before[k]])));
      },
      // What was allocated and is not there any more, or was there and is not.
      freed: () => {
        const { alloc, inuse, base_inuse: base } = made;
        return alloc.map((column, c) => every((k) => Math.max(column[k] - inuse[c][k] + base[c][k], 0)));
      },
      between: () => {
        const { alloc, freed } = made, none = new Float64Array(size);
        return alloc.map((column, c) => c === BYTES_VARIANCE || c === OBJECTS_VARIANCE ? every((k) => column[k] + freed[c][k]) : none);
      },
    };
    for (const [name, make] of Object.entries(makers)) {
      let columns = null;
      Object.defineProperty(made, name, { enumerable: true, get: () => columns ??= make() });
    }
    return made;
  }

  // The profile in the window of the state's values; itself where it is shown whole.
  of(profile, values) {
    if (this.isWhole(values) && values.count !== "change") return profile;
    const window = this.window(values);
    const key = `${window.from} ${window.to}`;
    if (this.key !== key) {
      this.key = key;
      const none = new Uint32Array(this.size);
      const rows = { node: this.node, counts: this.counts(window), domain: this.domain, thread: none, size: this.size };
      this.made = Object.assign(Object.create(profile), { rows, window, kinds: Object.keys(rows.counts) });
      Object.defineProperty(this.made, "counts", { value: profile.counts });
    }
    return this.made;
  }

  secondsText(moment) {
    return this.timeText(this.moments[moment]);
  }

  // As many digits as tell the moments of this log apart.
  timeText(seconds) {
    const length = this.moments[this.last] - this.moments[0];
    const digits = Math.min(Math.max(3 - Math.floor(Math.log10(Math.max(length, 1e-6))), 0), 6);
    if (length < 600) return `${seconds.toFixed(Math.max(digits, 1))} s`;
    const whole = Math.round(seconds), two = (value) => String(value).padStart(2, "0");
    return `${whole >= 3600 ? `${Math.floor(whole / 3600)} h ` : ""}${two(Math.floor(whole / 60) % 60)} min ${two(whole % 60)} s`;
  }

  // "2.000 s to 12.300 s"
  windowText(values) {
    const { from, to } = this.window(values);
    return phrase("{from} to {to}", { from: this.secondsText(from), to: this.secondsText(to) });
  }

  // "; 2 other high points are as high within the error", empty where the error leaves no doubt.
  rivalsText(moment) {
    const rivals = this.head.peaks.find(([peak]) => peak === moment)?.[1] ?? 0;
    return rivals ? plural("; another high point is as high within the error", "; {number} other high points are as high within the error", rivals) : "";
  }

  // The first line of a page for a part of the time: what is counted, when, with its error.
  headline(profile, values, facts) {
    const { unit, count } = values;
    const own = profile.measure(values);
    const sum = (column) => column.reduce((a, b) => a + b, 0);
    const { from, to } = this.window(values);
    const peak = this.highest(Math.max(values.domain, 0), { from, to });
    const spans = {
      inuse: phrase("at {time}", { time: this.secondsText(to) }),
      peak: phrase("at {time}", { time: this.secondsText(peak) }) + this.rivalsText(peak),
    };
    const amount = count === "change" ? changeSumText(own, unit, facts)
      : estimateText(sum(own.value), sum(own.variance), sum(own.samples), unit, facts);
    const when = spans[count] ?? phrase("from {span}", { span: this.windowText(values) });
    return phrase("{amount} {what} {when} of the log", { amount, what: measureWords(count, unit), when });
  }
}

// The sum of all changes, with its error.
function changeSumText(own, unit, { exact, unseen }) {
  const sum = (column) => column.reduce((a, b) => a + b, 0);
  const delta = sum(own.value) - sum(own.base);
  const variance = Math.min(sum(own.between), sum(own.variance) + sum(own.baseVariance));
  return withEnds(signedText(delta, unit), delta, ...exact ? changeInterval95(delta, variance, unseen[unit]) : [null, null], unit, true);
}
