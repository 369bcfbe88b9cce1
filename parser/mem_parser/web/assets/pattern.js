// Regular expressions as the command line has them (Python's `re`), matched in time by their length times the text's:
// all ways through an expression are followed at once (Thompson's construction), so none can make the page wait.
// What cannot be matched so, look-around and back references, is refused, as in pprof.

const MOST_STEPS = 2000;
const MATCHING_MS = 3000;
const DIGIT = /\p{Nd}/u, WORD = /[\p{L}\p{N}_]/u, SPACE = /[\s\x1c-\x1f\x85]/u;
const CLASSES = { d: (c) => DIGIT.test(c), w: (c) => WORD.test(c), s: (c) => SPACE.test(c) };
const SURROGATE = /[\ud800-\udfff]/;
const CONTROLS = { a: "\x07", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };
const ANCHORS = { A: "start", Z: "end", z: "end", b: "border", B: "inside" };

class PatternError extends Error {}

// Reads an expression into a tree of ["char", test, the character if it is only one], ["anchor", kind], ["all", parts],
// ["any", branches] and ["repeat", part, from, to].
class PatternReader {
  constructor(text, fold) {
    this.text = Array.from(text);
    this.at = 0;
    this.fold = fold;
    // Whether capitals match small letters in any part.
    this.folds = fold;
    this.depth = 0;
  }

  read() {
    const tree = this.branches();
    if (this.at < this.text.length) throw new PatternError("unbalanced parenthesis");
    return tree;
  }

  peek(ahead = 0) { return this.text[this.at + ahead]; }

  take(wanted) {
    if (!wanted.split("").every((char, k) => this.peek(k) === char)) return false;
    this.at += wanted.length;
    return true;
  }

  branches() {
    const found = [this.sequence()];
    while (this.take("|")) found.push(this.sequence());
    return found.length === 1 ? found[0] : ["any", found];
  }

  sequence() {
    const parts = [];
    this.skipComments();
    while (this.at < this.text.length && this.peek() !== "|" && this.peek() !== ")") {
      const part = this.part();
      this.skipComments();
      if (part) parts.push(this.repeated(part));
      this.skipComments();
    }
    return ["all", parts];
  }

  skipComments() {
    while (this.take("(?#")) {
      const end = this.text.indexOf(")", this.at);
      if (end < 0) throw new PatternError("missing ), unterminated comment");
      this.at = end + 1;
    }
  }

  repeated(part) {
    const bounds = this.bounds();
    if (!bounds) return part;
    if (part[0] === "anchor") throw new PatternError("nothing to repeat");
    if (this.take("+")) throw new PatternError("possessive repeats are not known here");
    this.take("?");
    this.skipComments();
    const begin = this.at;
    if (this.bounds()) throw new PatternError("multiple repeat");
    this.at = begin;
    return ["repeat", part, ...bounds];
  }

  bounds() {
    for (const [sign, from, to] of [["*", 0, Infinity], ["+", 1, Infinity], ["?", 0, 1]]) if (this.take(sign)) return [from, to];
    const given = /^\{(\d*)(,?)(\d*)\}/.exec(this.text.slice(this.at, this.at + 40).join(""));
    if (!given || !given[1] && !given[2]) return null;
    const from = Number(given[1] || 0), to = given[2] ? Number(given[3] || Infinity) : from;
    if (from > to) throw new PatternError("min repeat greater than max repeat");
    this.at += given[0].length;
    return [from, to];
  }

  part() {
    if (this.bounds()) throw new PatternError("nothing to repeat");
    const char = this.text[this.at++];
    if (char === "(") return this.group();
    if (char === "[") return ["char", this.set()];
    if (char === ".") return ["char", (c) => c !== "\n"];
    if (char === "^") return ["anchor", "start"];
    if (char === "$") return ["anchor", "end"];
    if (char === "\\") return this.escape();
    return ["char", this.exactly(char), char];
  }

  exactly(char) {
    if (!this.fold) return (c) => c === char;
    const folded = char.toLowerCase();
    return (c) => c.toLowerCase() === folded;
  }

  escape() {
    const char = this.text[this.at++];
    if (char === undefined) throw new PatternError("bad escape (end of pattern)");
    if (Object.hasOwn(ANCHORS, char)) return ["anchor", ANCHORS[char]];
    if (/[1-9]/.test(char)) throw new PatternError("back references are not known here");
    const test = PatternReader.classOf(char);
    if (test) return ["char", test];
    const only = this.character(char);
    return ["char", this.exactly(only), only];
  }

  static classOf(char) {
    const test = Object.hasOwn(CLASSES, char.toLowerCase()) ? CLASSES[char.toLowerCase()] : null;
    if (!test) return null;
    return char === char.toLowerCase() ? test : (c) => !test(c);
  }

  // The character that an escape stands for.
  character(char) {
    if (Object.hasOwn(CONTROLS, char)) return CONTROLS[char];
    const digits = { x: 2, u: 4, U: 8 }[char];
    if (digits) {
      const code = this.text.slice(this.at, this.at + digits).join("");
      if (!/^[0-9a-f]+$/i.test(code) || code.length < digits || parseInt(code, 16) > 0x10ffff) throw new PatternError(`incomplete escape \\${char}`);
      this.at += digits;
      return String.fromCodePoint(parseInt(code, 16));
    }
    if (char === "0") return "\0";
    if (/[a-z0-9]/i.test(char)) throw new PatternError(`bad escape \\${char}`);
    return char;
  }

  group() {
    if (this.depth > 100) throw new PatternError("too many groups inside groups");
    const fold = this.fold;
    if (this.take("?") && !this.header()) return null;
    this.depth += 1;
    const tree = this.branches();
    this.depth -= 1;
    this.fold = fold;
    if (!this.take(")")) throw new PatternError("missing ), unterminated subpattern");
    return tree;
  }

  // What follows "(?"; whether a group follows.
  header() {
    const rest = this.text.slice(this.at, this.at + 80).join("");
    if (/^(?:[=!>(]|<[=!])/.test(rest)) throw new PatternError("look-around is not known here");
    if (/^P=/.test(rest)) throw new PatternError("back references are not known here");
    const given = /^(?:P<[\p{L}_][\p{L}\p{N}_]*>|([aimsu]*)(?:-([ims]+))?([:)]))/u.exec(rest);
    if (!given) throw new PatternError(`unknown extension ?${rest.slice(0, 1)}`);
    if (given[3] === ")" && (this.at > 2 || given[2] || !given[1])) throw new PatternError("global flags not at the start of the expression");
    this.at += given[0].length;
    if (given[1]?.includes("i")) this.fold = this.folds = true;
    if (given[2]?.includes("i")) this.fold = false;
    return given[3] !== ")";
  }

  set() {
    const negated = this.take("^");
    const tests = [];
    for (let first = true; first || this.peek() !== "]"; first = false) {
      if (this.at >= this.text.length) throw new PatternError("unterminated character set");
      const low = this.member();
      if (this.peek() === "-" && this.peek(1) !== "]" && this.peek(1) !== undefined) {
        this.at += 1;
        const high = this.member();
        if (typeof low !== "string" || typeof high !== "string" || low.codePointAt(0) > high.codePointAt(0)) throw new PatternError("bad character range");
        tests.push((c) => c.codePointAt(0) >= low.codePointAt(0) && c.codePointAt(0) <= high.codePointAt(0));
      } else tests.push(typeof low === "string" ? (c) => c === low : low);
    }
    this.at += 1;
    const fold = this.fold;
    const holds = (c) => tests.some((test) => test(c));
    return (c) => negated !== (holds(c) || fold && (holds(c.toLowerCase()) || holds(c.toUpperCase())));
  }

  // One member of a set: a character, or the test of a class.
  member() {
    const char = this.text[this.at++];
    if (char !== "\\") return char;
    const escaped = this.text[this.at++];
    if (escaped === undefined) throw new PatternError("unterminated character set");
    if (escaped === "b") return "\b";
    return PatternReader.classOf(escaped) ?? this.character(escaped);
  }
}

// An expression ready to match. Steps: { test, next }, { kind, next }, { next, other } or the last one, {}.
class Pattern {
  // fold: capitals match small letters. Throws PatternError.
  constructor(text, fold = false) {
    const reader = new PatternReader(text, fold);
    const tree = reader.read();
    this.steps = [];
    this.folds = reader.folds;
    this.needed = neededTexts(tree).map((needed) => this.folds ? needed.toLowerCase() : needed);
    this.first = this.build(tree, this.add({}));
    this.marks = new Int32Array(this.steps.length).fill(-1);
    this.round = 0;
  }

  add(step) {
    if (this.steps.length === MOST_STEPS) throw new PatternError("the expression is too large");
    this.steps.push(step);
    return this.steps.length - 1;
  }

  // The step at which `tree` begins; behind it comes `next`.
  build(tree, next) {
    const [kind, given, from, to] = tree;
    if (kind === "char") return this.add({ test: given, next });
    if (kind === "anchor") return this.add({ kind: given, next });
    if (kind === "all") return given.reduceRight((behind, part) => this.build(part, behind), next);
    if (kind === "any") return given.map((branch) => this.build(branch, next)).reduce((other, branch) => this.add({ next: branch, other }));
    return this.buildRepeat(given, from, to, next);
  }

  buildRepeat(part, from, to, next) {
    let begin = next;
    if (to === Infinity) {
      begin = this.add({ next, other: next });
      this.steps[begin].other = this.build(part, begin);
    } else {
      for (let k = from; k < to; k += 1) begin = this.add({ next, other: this.build(part, begin) });
    }
    for (let k = 0; k < from; k += 1) begin = this.build(part, begin);
    return begin;
  }

  // Whether the expression matches somewhere in the text.
  test(text) {
    const shown = this.folds ? text.toLowerCase() : text;
    for (const needed of this.needed) if (!shown.includes(needed)) return false;
    const chars = SURROGATE.test(text) ? Array.from(text) : text;
    let here = [];
    for (let at = 0; at <= chars.length; at += 1) {
      this.round += 1;
      const reached = [];
      for (const step of here) if (this.follow(step, chars, at, reached)) return true;
      if (this.follow(this.first, chars, at, reached)) return true;
      if (at === chars.length) return false;
      here = [];
      for (const step of reached) if (step.test(chars[at])) here.push(step.next);
    }
    return false;
  }

  // Adds the characters to read next to `reached`; whether the end was reached.
  follow(begin, chars, at, reached) {
    const pending = [begin];
    while (pending.length) {
      const place = pending.pop();
      if (this.marks[place] === this.round) continue;
      this.marks[place] = this.round;
      const step = this.steps[place];
      if (step.test) reached.push(step);
      else if (step.next === undefined) return true;
      else if (step.kind) { if (Pattern.holds(step.kind, chars, at)) pending.push(step.next); }
      else pending.push(step.next, step.other);
    }
    return false;
  }

  static holds(kind, chars, at) {
    if (kind === "start") return at === 0;
    if (kind === "end") return at === chars.length;
    if (!chars.length) return false;
    const before = at > 0 && WORD.test(chars[at - 1]), after = at < chars.length && WORD.test(chars[at]);
    return (before !== after) === (kind === "border");
  }
}

// Texts that all matches have in them: looking for these first is what makes most names cheap. Only of ASCII, whose small
// letters do not depend on what stands beside them.
function neededTexts(tree) {
  const found = [];
  let run = "";
  const end = () => {
    if (run) found.push(run);
    run = "";
  };
  const walk = ([kind, given, third]) => {
    if (kind === "all") given.forEach(walk);
    else if (kind === "char" && third < "\x80") run += third;
    else if (kind === "repeat" && third > 0) { end(); walk(given); end(); } else if (kind !== "anchor") end();
  };
  walk(tree);
  end();
  return found;
}

// What `look` returns of a test of texts by an expression, each distinct one looked at once; or { problem }: why there is
// no answer. fold: capitals match small letters.
function withPattern(text, look, fold = false) {
  let pattern;
  try {
    pattern = new Pattern(text, fold);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    return { problem: `not a regular expression: ${error.message}` };
  }
  const answers = new Map();
  const until = performance.now() + MATCHING_MS;
  const test = (name) => {
    if (!answers.has(name)) {
      if (performance.now() > until) throw new RangeError("late");
      answers.set(name, pattern.test(name));
    }
    return answers.get(name);
  };
  try {
    return look(test);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { problem: `takes more than ${MATCHING_MS / 1000} s on the names of this page` };
  }
}
