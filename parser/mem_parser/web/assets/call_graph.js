// The call graph of what the boxes leave: the functions and calls that mem_parser/reports/graph.py would draw, of the tree.

const NODE_SHARE = 0.005, EDGE_SHARE = 0.001;
const MOST_NODES = 80, MOST_EDGES = 160, MOST_AT_NODE = 8;

// { nodes: [{ name, flat, cum }], edges: [{ from, to, value, indirect }], total, fewer }; tables: NarrowedTables. `fewer`
// is how many functions are not drawn. An indirect call leads through some of these.
function callGraph(tables, count, unit) {
  const { profile, charged } = tables;
  const { size, parent } = profile;
  const { of, ids } = tables.functionNumbers();
  const outer = tables.outermostOfAll(of, ids.length);
  const value = tables.measured(count, unit).value;
  const below = new Float64Array(size);
  for (let node = 0; node < size; node += 1) below[charged[node]] += value[node];
  const flat = new Float64Array(ids.length), cum = new Float64Array(ids.length);
  for (let node = 1; node < size; node += 1) flat[of[node]] += below[node];
  for (let node = size - 1; node > 0; node -= 1) {
    below[parent[node]] += below[node];
    if (outer[node]) cum[of[node]] += below[node];
  }
  const total = below[0];
  const known = [...ids.keys()].filter((k) => cum[k] > 0).sort((a, b) => cum[b] - cum[a]);
  const drawn = known.filter((k) => cum[k] >= NODE_SHARE * total).slice(0, MOST_NODES);
  const place = new Int32Array(ids.length).fill(-1);
  drawn.forEach((k, at) => { place[k] = at; });
  const calls = callsBetween(profile, below, (node) => place[of[node]], drawn.length);
  return {
    nodes: drawn.map((k) => ({ name: profile.names[ids[k]], flat: flat[k], cum: cum[k] })),
    edges: chosenCalls(calls, drawn.length, total), total, fewer: known.length - drawn.length,
  };
}

// Each call once a stack, between the nearest drawn functions; none of a function to itself.
function callsBetween(profile, below, placeOf, count) {
  const { size, parent } = profile;
  const found = new Map();
  const caller = new Int32Array(size), skipped = new Uint8Array(size), on = new Map(), path = [];
  for (let node = 1; node < size; node += 1) {
    if (!(below[node] > 0)) continue;
    const above = parent[node];
    const direct = above > 0 && placeOf(above) >= 0;
    caller[node] = direct ? above : caller[above];
    skipped[node] = direct ? 0 : 1;
    while (path.length && path[path.length - 1].node !== above) on.set(path[path.length - 1].key, on.get(path.pop().key) - 1);
    const from = caller[node] > 0 ? placeOf(caller[node]) : -1, to = placeOf(node);
    const key = from >= 0 && to >= 0 && from !== to ? from * count + to : -1;
    if (key >= 0 && !on.get(key)) {
      if (!found.has(key)) found.set(key, { from, to, value: 0, indirect: true });
      found.get(key).value += below[node];
      if (!skipped[node]) found.get(key).indirect = false;
    }
    on.set(key, (on.get(key) ?? 0) + 1);
    path.push({ node, key });
  }
  return [...found.values()].sort((a, b) => b.value - a.value);
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
    if (chosen.length >= MOST_EDGES || call.value < EDGE_SHARE * total) break;
    if (into[call.to] >= MOST_AT_NODE || out[call.from] >= MOST_AT_NODE) continue;
    into[call.to] += 1;
    out[call.from] += 1;
    chosen.push(call);
  }
  return chosen;
}
