// What frames are called. The page knows each function by its full name; readers see it short or with template
// arguments, alone or with a line. All these names are in one table, so that one number says what is drawn.

class NameTable {
  // head: of the packed tree; node columns `entry` (function) and `line`
  constructor(head, entry, line) {
    // By number: the name, and of it the file, module, kind, the short name without a line, the line (0: none), and the
    // same name without a line.
    this.names = [];
    this.file = [];
    this.module = [];
    this.kind = [];
    this.functionOf = [];
    this.lineOf = [];
    this.plain = [];
    this.short = this.addNames(head, (k) => head.functions[k]);
    this.hidden = this.add(HIDDEN_FRAME, "", "", KIND_PSEUDO, this.names.length, 0);
    this.whole = this.addNames(head, (k) => head.whole[k] || head.functions[k], this.short);
    this.hasTemplates = this.whole.some((name, k) => name !== this.short[k]);
    // By `styleKey`: the name of each node.
    this.styles = {
      "": Int32Array.from(entry, (k) => this.short[k]), whole: Int32Array.from(entry, (k) => this.whole[k]),
    };
    this.styles.line = Int32Array.from(this.styles[""]);
    this.styles["whole line"] = Int32Array.from(this.styles.whole);
    const known = new Map(), functions = this.names.length;
    for (const style of ["", "whole"]) this.addLines(this.styles[style], this.styles[`${style} line`.trim()], line, known, functions);
    this.hasLines = known.size > 0;
  }

  add(name, file, module, kind, functionOf, line) {
    const made = this.names.length;
    this.names.push(name);
    this.file.push(file);
    this.module.push(module);
    this.kind.push(kind);
    this.functionOf.push(functionOf);
    this.lineOf.push(line);
    this.plain.push(made);
    return made;
  }

  // One name for all entries of a group that are called alike; `known` are the names of the groups, if there are some.
  addNames(head, nameOf, known = null) {
    const found = new Map();
    return head.group.map((group, k) => {
      const text = nameOf(k);
      if (known && text === this.names[known[k]]) return known[k];
      const key = known ? `${group} ${text}` : group;
      if (!found.has(key)) {
        const made = this.add(text, head.files[head.file[k]], head.modules[head.module[k]], head.kind[k], 0, 0);
        this.functionOf[made] = known ? known[k] : made;
        found.set(key, made);
      }
      return found.get(key);
    });
  }

  // One more name for every function at a known line: "parse:22".
  addLines(name, named, line, known, functions) {
    for (let node = 1; node < name.length; node += 1) {
      if (!(line[node] > 0)) continue;
      const key = line[node] * functions + name[node];
      if (!known.has(key)) known.set(key, this.lineName(name[node], line[node]));
      named[node] = known.get(key);
    }
  }

  lineName(name, line) {
    const text = `${this.names[name]}:${line}`;
    const made = this.add(text, this.file[name], this.module[name], this.kind[name], this.functionOf[name], line);
    this.plain[made] = name;
    return made;
  }
}

const HIDDEN_FRAME = "[hidden]";

function styleKey({ lines, templates }) {
  return [templates ? "whole" : "", lines ? "line" : ""].filter(Boolean).join(" ");
}
