// The call graph of what the page shows: the functions and calls that mem_parser/reports/graph.py would draw, of the tree.

const NODE_SHARE = 0.005, EDGE_SHARE = 0.001;
const MOST_NODES = 80, MOST_EDGES = 160, MOST_AT_NODE = 8;

// { nodes: [{ name, flat, cum, change, ownChange }], edges: [{ from, to, value, change, indirect }], total, change, fewer }; tables:
// ReportTables. `fewer` is how many functions are not drawn. An indirect call leads through some of these. A change since a
// base is { value, ends }, of an edge the value alone; functions and calls are chosen by what they hold in both together.
function callGraph(tables, count, unit) {
  const { profile, facts } = tables;
  const { ids } = tables.functionNumbers();
  const own = profile.measure({ count, unit, thread: -1, domain: tables.domain, diff: true });
  const now = sumsOfFunctions(tables, own.value);
  const base = own.base && sumsOfFunctions(tables, own.base);
  const both = base ? sumsOfFunctions(tables, own.value.map((value, node) => value + own.base[node])) : now;
  const total = both.below[0];
  const known = [...ids.keys()].filter((k) => both.cum[k] > 0).sort((a, b) => both.cum[b] - both.cum[a]);
  const drawn = known.filter((k) => both.cum[k] >= NODE_SHARE * total).slice(0, MOST_NODES);
  const place = new Int32Array(ids.length).fill(-1);
  drawn.forEach((k, at) => { place[k] = at; });
  const change = base && changesOfFunctions(tables, own, { now, base, both, known }, facts.exact ? facts.unseen[unit] : null);
  const calls = callsBetween(tables, place, drawn.length, [both.below, now.below, base?.below ?? null]);
  return {
    nodes: drawn.map((k) => ({ name: profile.names[ids[k]], flat: now.flat[k], cum: now.cum[k], ownChange: base && now.flat[k] - base.flat[k], change: change?.(now.cum[k] - base.cum[k], (sums) => sums.cum[k], k) })),
    edges: chosenCalls(calls, drawn.length, total), total: now.below[0], fewer: known.length - drawn.length,
    change: change?.(now.below[0] - base.below[0], (sums) => sums.below[0]),
  };
}

// What nodes hold of their own and below, and what each function does: { below, flat, cum }.
function sumsOfFunctions(tables, column) {
  const { profile: { size, parent }, charged } = tables;
  const { of, ids } = tables.functionNumbers();
  const outer = tables.outermostOfAll(of, ids.length);
  const below = new Float64Array(size), flat = new Float64Array(ids.length), cum = new Float64Array(ids.length);
  for (let node = 0; node < size; node += 1) below[charged[node]] += column[node];
  for (let node = 1; node < size; node += 1) flat[of[node]] += below[node];
  for (let node = size - 1; node > 0; node -= 1) {
    below[parent[node]] += below[node];
    if (outer[node]) cum[of[node]] += below[node];
  }
  return { below, flat, cum };
}

// What tells of a change, where its sums are and whose it is: { value, ends, noise }. What both snapshots hold only cancels.
// Functions that call none are judged by what they own, as mem_parser/reports/graph_diff.py does.
function changesOfFunctions(tables, own, { now, base, both, known }, unseen) {
  const apart = sumsOfFunctions(tables, own.variance.map((variance, node) => variance + own.baseVariance[node]));
  const paired = own.between && sumsOfFunctions(tables, own.between);
  const variance = (of) => Math.min(of(apart), paired ? of(paired) : Infinity);
  const judged = (part) => {
    const stands = unseen && beyondChance(known.map((k) => ({
      delta: now[part][k] - base[part][k], variance: variance((sums) => sums[part][k]),
      weight: unseen.bounded ? unseen.weight : apart[part][k] / (both[part][k] || 1),
    })));
    return new Map(known.map((k, at) => [k, !stands || stands[at]]));
  };
  const verdicts = { flat: judged("flat"), cum: judged("cum") };
  return (value, of, k) => ({
    value, ends: unseen ? changeInterval95(value, variance(of), unseen) : [null, null],
    noise: value === 0 || k !== undefined && !verdicts[both.cum[k] - both.flat[k] > 1e-9 * both.cum[k] ? "cum" : "flat"].get(k),
  });
}

// Each call once a stack, between the nearest drawn functions; none of a function to itself. `sums`: what nodes hold in both
// together, now, and in the base, if there is one.
function callsBetween(tables, place, count, [both, now, base]) {
  const { size, parent } = tables.profile;
  const { of } = tables.functionNumbers();
  const placeOf = (node) => place[of[node]];
  const found = new Map();
  const caller = new Int32Array(size), skipped = new Uint8Array(size), on = new Map(), path = [];
  for (let node = 1; node < size; node += 1) {
    if (!(both[node] > 0)) continue;
    const above = parent[node];
    const direct = above > 0 && placeOf(above) >= 0;
    caller[node] = direct ? above : caller[above];
    skipped[node] = direct ? 0 : 1;
    while (path.length && path[path.length - 1].node !== above) on.set(path[path.length - 1].key, on.get(path.pop().key) - 1);
    const from = caller[node] > 0 ? placeOf(caller[node]) : -1, to = placeOf(node);
    const key = from >= 0 && to >= 0 && from !== to ? from * count + to : -1;
    if (key >= 0 && !on.get(key)) {
      if (!found.has(key)) found.set(key, { from, to, weight: 0, value: 0, change: 0, indirect: true });
      const call = found.get(key);
      call.weight += both[node];
      call.value += now[node];
      if (base) call.change += now[node] - base[node];
      if (!skipped[node]) call.indirect = false;
    }
    on.set(key, (on.get(key) ?? 0) + 1);
    path.push({ node, key });
  }
  return [...found.values()].sort((a, b) => b.weight - a.weight);
}

// The heaviest call into every function, then others by weight.
function chosenCalls(calls, count, total) {
  const into = new Int32Array(count), out = new Int32Array(count);
  const chosen = [], rest = [];
  for (const call of calls) {
    if (!into[call.to]) {
      into[call.to] += 1;
      out[call.from] += 1;
      chosen.push(call);
    } else rest.push(call);
  }
  for (const call of rest) {
    if (chosen.length >= MOST_EDGES || call.weight < EDGE_SHARE * total) break;
    if (into[call.to] >= MOST_AT_NODE || out[call.from] >= MOST_AT_NODE) continue;
    into[call.to] += 1;
    out[call.from] += 1;
    chosen.push(call);
  }
  return chosen;
}
