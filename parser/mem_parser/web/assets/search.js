// Searching: a regular expression over function, file and module names, and over file:line where it has a line; and
// what the matching stacks add up to.

// Over all names of a page. It remembers its last answer: a page asks again whenever it draws.
class Search {
  constructor(profile) {
    Object.assign(this, { profile, query: "", found: null });
  }

  // { matched: one byte per name } or { problem: text } or null for no search. Capitals make it exact about case.
  find(query) {
    if (query !== this.query) Object.assign(this, { query, found: query ? this.look(query) : null });
    return this.found;
  }

  look(query) {
    const { names, nameFile, nameModule } = this.profile;
    return withPattern(query, (test) => {
      const matched = Uint8Array.from(names, (name, k) => Number(k > 0 && (test(name) || test(nameFile[k]) || test(nameModule[k]))));
      if (/:\\?\d/.test(query)) this.matchLines(test, matched);
      return { matched };
    }, !/[A-Z]/.test(query));
  }

  // Of `file.py:42` the names of all frames at that line.
  matchLines(test, matched) {
    const { size, line, lineFile, files, styles } = this.profile;
    for (let node = 1; node < size; node += 1) {
      if (!(line[node] > 0) || !test(`${files[lineFile[node]]}:${line[node]}`)) continue;
      for (const named of Object.values(styles)) matched[named[node]] = 1;
    }
  }
}

// What the stacks through a matching frame add up to, each stack once; only below `top`, the zoomed node.
function matchedTotals(view, matched, top) {
  const result = { value: 0, width: 0, variance: 0, samples: 0, frames: 0 };
  const pending = [top];
  while (pending.length) {
    const node = pending.pop();
    if (node !== 0 && matched[view.name[node]]) {
      result.value += view.value[node];
      result.width += view.width[node];
      result.variance += view.variance[node];
      result.samples += view.samples[node];
      result.frames += 1;
      continue;
    }
    const children = view.childrenOf(node);
    for (let k = 0; k < children.length; k += 1) pending.push(children[k]);
  }
  return result;
}

// The outermost matching frames below `top`, widest first, for stepping through them.
function matchedNodes(view, matched, top, most) {
  const found = [];
  const pending = [top];
  while (pending.length) {
    const node = pending.pop();
    if (node !== 0 && matched[view.name[node]]) { found.push(node); continue; }
    const children = view.childrenOf(node);
    for (let k = 0; k < children.length; k += 1) pending.push(children[k]);
  }
  return found.sort((a, b) => view.width[b] - view.width[a]).slice(0, most);
}
