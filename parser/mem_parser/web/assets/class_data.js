// A pool of a dump: what each owner held at steps and at the highest moment of all, as mem_parser/web/scopeclasses.py packs it.
// A moment is the number of a step, or PEAK; of a step, `when` says which: its highest moment ("peak") or its end ("end").

const PEAK = -1;

class ClassPool {
  constructor(packed) {
    const { head, columns } = unpackTree(packed);
    Object.assign(this, head);
    this.size = this.steps.length;
    this.numbers = {};
    for (const when of ["end", "peak", "top"]) {
      for (const kind of ["bytes", "blocks"]) this.numbers[`${when}.${kind}`] = this.read(columns.get(`${when}.${kind}`), when === "top" ? 1 : this.size);
    }
    this.byClass = this.classes.map((_, k) => this.owners.flatMap(([, owner], at) => owner === k ? [at] : []));
    this.sums = {};
  }

  // Each owner's steps, one after the other; a number is the difference to the step before.
  read(column, steps) {
    const found = new Float64Array(column.length);
    for (let k = 0, at = 0; k < column.length; k += 1) {
      if (k % steps === 0) at = 0;
      const value = column[k];
      found[k] = at += value % 2 ? -(value + 1) / 2 : value / 2;
    }
    return found;
  }

  get title() {
    return (this.file ? `${this.file}: ` : "") + phrase("device {device}, {pool}", this);
  }

  // Bytes or blocks of some of `owners` together.
  of(members, moment, when, kind = "bytes") {
    const numbers = this.numbers[moment === PEAK ? `top.${kind}` : `${when}.${kind}`];
    const width = moment === PEAK ? 1 : this.size, at = moment === PEAK ? 0 : moment;
    return members.reduce((sum, owner) => sum + numbers[owner * width + at], 0);
  }

  // The same of a class.
  ofClass(number, moment, when, kind = "bytes") {
    return this.of(this.byClass[number], moment, when, kind);
  }

  // Classes, their owners, and the operators that allocated: { key, name, members, parts }.
  get tree() {
    return this.nodes ??= this.classes.map((name, k) => ({ key: `class-${k}`, name, number: k, members: this.byClass[k], parts: this.ownersOf(k) }));
  }

  ownersOf(number) {
    const found = new Map();
    const rest = [];
    for (const member of this.byClass[number]) {
      const [name, , , joined] = this.owners[member];
      if (joined > 1) rest.push({ key: `rest-${member}`, name: "", missing: phrase("{number} smaller ones", { number: countText(joined) }), members: [member], parts: [] });
      else if (found.has(name)) found.get(name).members.push(member);
      else found.set(name, { key: `owner-${member}`, name, missing: phrase("no owner"), members: [member], parts: [] });
    }
    for (const owner of found.values()) {
      const operators = owner.members.map((member) => ({ key: `operator-${member}`, name: this.owners[member][2], missing: phrase("no operator"), members: [member], parts: [] }));
      if (operators.some(({ name }) => name)) owner.parts = operators;
    }
    return [...found.values(), ...rest];
  }

  // Of a class at all steps.
  classColumn(number, when, kind = "bytes") {
    return this.sums[`${number}.${when}.${kind}`] ??= this.summed(this.byClass[number], when, kind);
  }

  summed(owners, when, kind) {
    const numbers = this.numbers[`${when}.${kind}`], found = new Float64Array(this.size);
    for (const owner of owners) for (let k = 0; k < this.size; k += 1) found[k] += numbers[owner * this.size + k];
    return found;
  }

  totals(when) {
    return this.sums[when] ??= this.summed(this.owners.map((_, k) => k), when, "bytes");
  }

  total(moment, when) {
    return moment === PEAK ? this.classes.reduce((sum, _, k) => sum + this.ofClass(k, PEAK, when), 0) : this.totals(when)[moment];
  }

  // The step in which the peak of all is, if any.
  get peakStep() {
    return this.peak_rows.indexOf(this.top_row);
  }

  seconds(value) {
    const length = this.ends_s[this.size - 1] || this.top_s || 1;
    return `${value.toFixed(Math.min(Math.max(3 - Math.floor(Math.log10(Math.max(length, 1e-6))), 0), 6))} s`;
  }

  // "step 3", "0.10 s to 0.20 s"
  stepName(step) {
    return this.is_steps ? phrase("step {name}", { name: this.steps[step] })
      : phrase("{from} to {to}", { from: this.seconds(this.begins_s[step]), to: this.seconds(this.ends_s[step]) });
  }

  // What a moment is, in words.
  momentText(moment, when) {
    if (moment === PEAK) {
      const step = this.is_steps ? this.peakStep : -1;
      const time = this.seconds(this.top_s);
      return step >= 0 ? phrase("Peak of all, in {step}, at {time}", { step: this.stepName(step), time }) : phrase("Peak of all, at {time}", { time });
    }
    const name = this.stepName(moment);
    if (when === "end" && !this.is_steps) return phrase("End of {step}", { step: name });
    if (when === "end") return phrase("End of {step}, at {time}", { step: name, time: this.seconds(this.ends_s[moment]) });
    return phrase("Peak of {step}, at {time}", { step: name, time: this.seconds(this.peaks_s[moment]) });
  }
}

const CLASS_COLOURS = { weight: "weight", optimizer_state: "state", gradient: "gradient", input: "input", activation: "activation", aten: "aten", unknown: "unknown" };
const OTHER_COLOURS = 5;

// The part of a CSS class that colours each class of a pool; names that are not known take turns.
function classColours(classes) {
  let next = 0;
  return classes.map((name) => CLASS_COLOURS[Object.hasOwn(CLASS_COLOURS, name) ? name : ""] ?? `other-${next++ % OTHER_COLOURS}`);
}
