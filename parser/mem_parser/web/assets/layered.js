// A layout in layers (Sugiyama's): callers above callees, few crossings, boxes below the middle of their callers.

const BOX_GAP = 26, LAYER_GAP = 56, BEND_WIDTH = 12, SWEEPS = 24;

// boxes: [{ width, height }]; edges: [{ from, to }]. Gives each box x (of its middle) and y (of its top), and each edge
// `points`, from caller to callee, and `up` where it leads to a layer above. No edge leads from a box to itself.
function layOut(boxes, edges) {
  markUpward(boxes.length, edges);
  const layer = layersOf(boxes.length, edges);
  const { items, layers, joints } = withBends(boxes, edges, layer);
  orderLayers(items, layers, joints);
  placeAcross(items, layers);
  let y = 0;
  for (const row of layers) {
    const height = Math.max(...row.map((k) => items[k].height));
    for (const k of row) items[k].y = y + (height - items[k].height) / 2;
    y += height + LAYER_GAP;
  }
  boxes.forEach((box, k) => Object.assign(box, { x: items[k].x, y: items[k].y }));
  for (const edge of edges) {
    const [first, ...bends] = edge.way, last = bends.pop();
    const points = [[items[first].x, items[first].y + items[first].height],
      ...bends.map((k) => [items[k].x, items[k].y + items[k].height / 2]), [items[last].x, items[last].y]];
    edge.points = edge.up ? points.reverse() : points;
  }
}

// Edges that close a circle lead up.
function markUpward(count, edges) {
  const out = Array.from({ length: count }, () => []);
  for (const edge of edges) out[edge.from].push(edge);
  const state = new Uint8Array(count);
  for (let root = 0; root < count; root += 1) {
    if (state[root]) continue;
    const path = [{ node: root, next: 0 }];
    state[root] = 1;
    while (path.length) {
      const at = path[path.length - 1];
      const edge = out[at.node][at.next++];
      if (!edge) { state[at.node] = 2; path.pop(); continue; }
      edge.up = state[edge.to] === 1;
      if (!state[edge.to]) { state[edge.to] = 1; path.push({ node: edge.to, next: 0 }); }
    }
  }
}

function layersOf(count, edges) {
  const layer = new Int32Array(count);
  for (let changed = true; changed;) {
    changed = false;
    for (const { from, to, up } of edges) {
      const [above, under] = up ? [to, from] : [from, to];
      if (layer[under] <= layer[above]) { layer[under] = layer[above] + 1; changed = true; }
    }
  }
  return layer;
}

// An item for each box, and one in every layer that an edge passes; joints are the pairs in neighbouring layers.
function withBends(boxes, edges, layer) {
  const items = boxes.map(({ width, height }) => ({ width, height, before: [], behind: [] }));
  const layers = Array.from({ length: Math.max(...layer) + 1 }, () => []);
  boxes.forEach((_, k) => layers[layer[k]].push(k));
  const joints = [];
  for (const edge of edges) {
    const [above, under] = edge.up ? [edge.to, edge.from] : [edge.from, edge.to];
    edge.way = [above];
    for (let at = layer[above] + 1; at < layer[under]; at += 1) {
      layers[at].push(items.length);
      edge.way.push(items.length);
      items.push({ width: BEND_WIDTH, height: 0, before: [], behind: [] });
    }
    edge.way.push(under);
    for (let k = 1; k < edge.way.length; k += 1) {
      joints.push([edge.way[k - 1], edge.way[k]]);
      items[edge.way[k - 1]].behind.push(edge.way[k]);
      items[edge.way[k]].before.push(edge.way[k - 1]);
    }
  }
  return { items, layers, joints };
}

// Sorts each layer by the mean place of the neighbours, down and up again; the order with the fewest crossings stays.
function orderLayers(items, layers, joints) {
  const number = () => layers.forEach((row) => row.forEach((k, at) => { items[k].at = at; }));
  number();
  let best = null;
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    for (const row of down ? layers : layers.slice().reverse()) {
      for (const k of row) {
        const near = down ? items[k].before : items[k].behind;
        items[k].wanted = near.length ? near.reduce((sum, other) => sum + items[other].at, 0) / near.length : items[k].at;
      }
      row.sort((a, b) => items[a].wanted - items[b].wanted || items[a].at - items[b].at);
      row.forEach((k, at) => { items[k].at = at; });
    }
    const crossings = crossingsOf(items, layers, joints);
    if (!best || crossings < best.crossings) best = { crossings, layers: layers.map((row) => row.slice()) };
  }
  best.layers.forEach((row, k) => { layers[k] = row; });
  number();
}

function crossingsOf(items, layers, joints) {
  const byLayer = new Map();
  const layerOf = new Map(layers.flatMap((row, at) => row.map((k) => [k, at])));
  for (const [above, under] of joints) {
    const at = layerOf.get(above);
    if (!byLayer.has(at)) byLayer.set(at, []);
    byLayer.get(at).push([items[above].at, items[under].at]);
  }
  let found = 0;
  for (const pairs of byLayer.values()) {
    for (let a = 0; a < pairs.length; a += 1) {
      for (let b = a + 1; b < pairs.length; b += 1) {
        if ((pairs[a][0] - pairs[b][0]) * (pairs[a][1] - pairs[b][1]) < 0) found += 1;
      }
    }
  }
  return found;
}

// Moves items towards the middle of their neighbours, in order and apart. The mean of two places that keep the distances
// keeps them too.
function placeAcross(items, layers) {
  const apart = (left, right) => (items[left].width + items[right].width) / 2 + BOX_GAP;
  for (const row of layers) row.forEach((k, at) => { items[k].x = at ? items[row[at - 1]].x + apart(row[at - 1], k) : 0; });
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const row of sweep % 2 ? layers.slice().reverse() : layers) {
      const wanted = row.map((k) => {
        const near = sweep % 2 ? items[k].behind : items[k].before;
        return near.length ? near.reduce((sum, other) => sum + items[other].x, 0) / near.length : items[k].x;
      });
      const fromLeft = [], fromRight = [];
      for (let at = 0; at < row.length; at += 1) {
        fromLeft[at] = at ? Math.max(wanted[at], fromLeft[at - 1] + apart(row[at - 1], row[at])) : wanted[at];
      }
      for (let at = row.length - 1; at >= 0; at -= 1) {
        fromRight[at] = at < row.length - 1 ? Math.min(wanted[at], fromRight[at + 1] - apart(row[at], row[at + 1])) : wanted[at];
      }
      row.forEach((k, at) => { items[k].x = (fromLeft[at] + fromRight[at]) / 2; });
    }
  }
}
