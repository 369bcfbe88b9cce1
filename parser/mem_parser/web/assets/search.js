// Searching: a regular expression over function, file and module names, and over file:line where it has a line; and
// what the matching stacks add up to.

function foldsCase(query) {
  return !/[A-Z]/.test(query);
}

// Over all names of a page. It remembers its last answer: a page asks again whenever it draws.
class Search {
  // answered(): is called when there is an answer that there was not yet
  constructor(profile, answered) {
    Object.assign(this, { profile, answered, query: "", found: null });
  }

  // { matched: one byte per name } or { problem: text }, null for no search, {} while there is no answer. Capitals make it
  // exact about case.
  find(query) {
    if (!query) return null;
    const answer = this.profile.answers.of(query, foldsCase(query));
    if (!answer) this.profile.answers.ask(query, foldsCase(query)).then(this.answered);
    if (!answer?.test) return answer ?? {};
    if (query !== this.query) Object.assign(this, { query, found: this.look(query, answer.test) });
    return this.found;
  }

  look(query, test) {
    const { names, nameFile, nameModule } = this.profile;
    const matched = Uint8Array.from(names, (name, k) => Number(k > 0 && (test(name) || test(nameFile[k]) || test(nameModule[k]))));
    if (/:\\?\d/.test(query)) this.matchLines(test, matched);
    return { matched };
  }

  // Of `file.py:42` the names of all frames at that line.
  matchLines(test, matched) {
    const { size, line, styles } = this.profile;
    for (let node = 1; node < size; node += 1) {
      if (!(line[node] > 0) || !test(this.profile.lineText(node))) continue;
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
