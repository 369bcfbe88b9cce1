// Searching: a regular expression over function, file and module names, and what the matching stacks add up to.

// { matched: one byte per name } or { problem: text } or null for no search. Capitals make it exact about case.
function compileSearch(profile, query) {
  if (!query) return null;
  let pattern;
  try {
    pattern = new RegExp(query, /[A-Z]/.test(query) ? "u" : "iu");
  } catch {
    try {
      pattern = new RegExp(query, /[A-Z]/.test(query) ? "" : "i");
    } catch (error) {
      return { problem: error.message.replace(/^Invalid regular expression: /, "") };
    }
  }
  const matched = new Uint8Array(profile.names.length);
  for (let name = 1; name < matched.length; name += 1) {
    if (pattern.test(profile.names[name]) || pattern.test(profile.nameFile[name])
        || pattern.test(profile.nameModule[name])) matched[name] = 1;
  }
  return { matched };
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
