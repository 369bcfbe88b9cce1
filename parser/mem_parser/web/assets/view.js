// What is drawn: a second tree, made from the profile's by hiding, merging, turning round or cutting out.
// Nodes are numbered so that a parent comes before its children; children are drawn widest first.

class ViewTree {
  constructor(capacity) {
    this.size = 0;
    this.allocate(Math.max(capacity, 16));
    this.table = new Int32Array(1 << 10).fill(-1);
    this.add(-1, 0, 0);
  }

  allocate(capacity) {
    const grow = (old, Type) => {
      const made = new Type(capacity);
      if (old) made.set(old);
      return made;
    };
    this.capacity = capacity;
    this.parent = grow(this.parent, Int32Array);
    this.name = grow(this.name, Int32Array);
    this.source = grow(this.source, Int32Array);
    for (const column of ViewTree.NUMBERS) this[column] = grow(this[column], Float64Array);
  }

  // A node of the profile stands for each node of the view (its line is shown), -2 once there are several.
  add(parent, name, source) {
    if (this.size === this.capacity) this.allocate(this.capacity * 2);
    const node = this.size++;
    this.parent[node] = parent;
    this.name[node] = name;
    this.source[node] = source;
    return node;
  }

  // The child of `parent` called `name`; made if it is not there.
  child(parent, name, source) {
    if (this.size * 2 > this.table.length) this.rehash();
    let slot = this.slot(parent, name);
    for (; this.table[slot] >= 0; slot = slot + 1 & this.table.length - 1) {
      const node = this.table[slot];
      if (this.parent[node] === parent && this.name[node] === name) {
        if (this.source[node] !== source) this.source[node] = -2;
        return node;
      }
    }
    return this.table[slot] = this.add(parent, name, source);
  }

  slot(parent, name) {
    const mixed = Math.imul(Math.imul(parent, 0x9e3779b1) ^ name, 0x85ebca6b);
    return (mixed ^ mixed >>> 15) & this.table.length - 1;
  }

  rehash() {
    this.table = new Int32Array(this.table.length * 4).fill(-1);
    for (let node = 1; node < this.size; node += 1) {
      let slot = this.slot(this.parent[node], this.name[node]);
      while (this.table[slot] >= 0) slot = slot + 1 & this.table.length - 1;
      this.table[slot] = node;
    }
  }

  addOwn(node, own, from) {
    this.width[node] += own.width[from];
    this.value[node] += own.value[from];
    this.variance[node] += own.variance[from];
    this.samples[node] += own.samples[from];
    if (own.base) {
      this.base[node] += own.base[from];
      this.baseVariance[node] += own.baseVariance[from];
      // Without births and deaths to go by, both sides are independent.
      this.between[node] += own.between ? own.between[from] : own.variance[from] + own.baseVariance[from];
    }
  }

  // Sums towards the root, keeps what each node has of its own, and links children by width.
  finish(hasBase) {
    this.hasBase = hasBase;
    this.ownValue = this.value.slice(0, this.size);
    this.ownWidth = this.width.slice(0, this.size);
    for (let node = this.size - 1; node > 0; node -= 1) {
      const parent = this.parent[node];
      for (const column of ViewTree.NUMBERS) this[column][parent] += this[column][node];
    }
    this.linkChildren();
    this.table = null;
    return this;
  }

  linkChildren() {
    const starts = new Int32Array(this.size + 1);
    for (let node = 1; node < this.size; node += 1) starts[this.parent[node] + 1] += 1;
    for (let node = 0; node < this.size; node += 1) starts[node + 1] += starts[node];
    const children = new Int32Array(Math.max(this.size - 1, 0));
    const next = starts.slice(0, this.size);
    for (let node = 1; node < this.size; node += 1) children[next[this.parent[node]]++] = node;
    for (let node = 0; node < this.size; node += 1) {
      if (starts[node + 1] - starts[node] < 2) continue;
      children.subarray(starts[node], starts[node + 1]).sort(
        (a, b) => this.width[b] - this.width[a] || this.name[a] - this.name[b]);
    }
    this.childStart = starts;
    this.children = children;
  }

  childrenOf(node) {
    return this.children.subarray(this.childStart[node], this.childStart[node + 1]);
  }

  path(node) {
    const nodes = [];
    for (let at = node; at >= 0; at = this.parent[at]) nodes.push(at);
    return nodes.reverse();
  }
}
ViewTree.NUMBERS = ["width", "value", "variance", "samples", "base", "baseVariance", "between"];

// Which nodes of the profile are not drawn: everything from the outermost allocator frame inwards, import machinery.
// A stack of allocator frames alone keeps the outermost.
function hiddenNodes(profile, { hideAllocators, hideImports }) {
  const hidden = new Uint8Array(profile.size), allocator = new Uint8Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) {
    const kind = profile.kind[node], above = profile.parent[node];
    if (hideAllocators && (kind & KIND_ALLOCATOR || allocator[above])) {
      allocator[node] = 1;
      hidden[node] = above > 0 ? 1 : 0;
    } else if (hideImports && kind & KIND_IMPORT) hidden[node] = 1;
  }
  return hidden;
}

// For each node the nearest drawn frame at or above it: itself, an ancestor, or 0. Repeated calls are one if asked. Of
// frames of header-only libraries that follow each other only the outermost is drawn, and those that something is charged to.
function drawnNodes(profile, own, options, charged) {
  const hidden = hiddenNodes(profile, options), { kind, parent } = profile;
  const owners = new Uint8Array(profile.size);
  for (let node = 0; node < profile.size; node += 1) if (hasOwn(own, node)) owners[charged[node]] = 1;
  for (let node = 1; options.hideAllocators && node < profile.size; node += 1) {
    if (kind[node] & kind[parent[node]] & KIND_HEADER && !owners[node]) hidden[node] = 1;
  }
  const drawn = new Int32Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) {
    const above = drawn[profile.parent[node]];
    const repeated = options.collapse && above > 0 && profile.name[above] === profile.name[node];
    drawn[node] = hidden[node] || repeated ? above : node;
  }
  return drawn;
}

// For each node the one that blocks of stacks ending there are charged to: behind the allocator's frames the nearest
// one that is no library's; without one, or where nobody knows its name, the nearest of a runtime, or else no mere
// wrapper.
function chargedNodes(profile, options) {
  const charged = new Int32Array(profile.size);
  const hidden = hiddenNodes(profile, { hideAllocators: options.hideAllocators, hideImports: false });
  const program = new Int32Array(profile.size), generic = new Int32Array(profile.size);
  const runtime = new Int32Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) {
    const above = profile.parent[node];
    const kind = profile.kind[node];
    // Frames left out below a library are mostly its own.
    const within = kind & KIND_LIBRARY || (kind & KIND_PSEUDO && above > 0 && program[above] !== above);
    program[node] = within ? program[above] : node;
    generic[node] = kind & KIND_WRAPPER ? generic[above] : node;
    runtime[node] = kind & KIND_RUNTIME ? node : runtime[above];
    const first = program[node];
    if (!options.hideAllocators) charged[node] = node;
    else if (hidden[node]) charged[node] = charged[above];
    else if (first && !(profile.kind[first] & KIND_NAMELESS)) charged[node] = first;
    else charged[node] = [runtime[node], generic[node]].find((inner) => inner > first) || first || node;
  }
  return charged;
}

// The nodes on the way to one that something is charged to.
function wantedNodes(profile, own, charged) {
  const wanted = new Uint8Array(profile.size);
  for (let node = profile.size - 1; node > 0; node -= 1) {
    if (hasOwn(own, node)) wanted[charged[node]] = 1;
  }
  for (let node = profile.size - 1; node > 0; node -= 1) {
    if (wanted[node]) wanted[profile.parent[node]] = 1;
  }
  return wanted;
}

function hasOwn(own, node) {
  return own.width[node] > 0 || own.value[node] > 0;
}

// Outermost frames at the root.
function buildDownward(profile, own, options) {
  const charged = chargedNodes(profile, options), drawn = drawnNodes(profile, own, options, charged);
  const wanted = wantedNodes(profile, own, charged);
  const view = new ViewTree(1024);
  const place = new Int32Array(profile.size);
  for (let node = 0; node < profile.size; node += 1) {
    if (node > 0 && wanted[node]) {
      const above = place[profile.parent[node]];
      place[node] = drawn[node] === node ? view.child(above, profile.name[node], node) : above;
    }
    if (hasOwn(own, node)) view.addOwn(place[charged[node]], own, node);
  }
  return view.finish(Boolean(own.base));
}

// Innermost frames at the root, callers below.
function buildInverted(profile, own, options) {
  const charged = chargedNodes(profile, options), drawn = drawnNodes(profile, own, options, charged);
  const view = new ViewTree(1024);
  for (let node = 0; node < profile.size; node += 1) {
    if (!hasOwn(own, node)) continue;
    let at = 0;
    for (let frame = drawn[charged[node]]; frame > 0; frame = drawn[profile.parent[frame]]) {
      at = view.child(at, profile.name[frame], frame);
    }
    view.addOwn(at, own, node);
  }
  return view.finish(Boolean(own.base));
}

// The outermost frame of each node that is called `name`; 0 where there is none.
function outermost(profile, name) {
  const found = new Int32Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) {
    found[node] = found[profile.parent[node]] || (profile.name[node] === name ? node : 0);
  }
  return found;
}

// Both sides of one function: what calls it, and what it calls. Each stack counts once, at its outermost call.
function buildSandwich(profile, own, options, name) {
  const charged = chargedNodes(profile, options), drawn = drawnNodes(profile, own, options, charged);
  const wanted = wantedNodes(profile, own, charged);
  const inside = outermost(profile, name);
  const callees = new ViewTree(1024), callers = new ViewTree(1024);
  callees.name[0] = callers.name[0] = name;
  const place = new Int32Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) {
    const top = inside[node];
    // A node that is charged further out than the function does not belong to it.
    if (!top) continue;
    const above = node === top ? 0 : place[profile.parent[node]];
    place[node] = node !== top && wanted[node] && drawn[node] === node ? callees.child(above, profile.name[node], node) : above;
    if (!hasOwn(own, node) || charged[node] < top) continue;
    callees.addOwn(place[charged[node]], own, node);
    let at = 0;
    for (let frame = drawn[profile.parent[top]]; frame > 0; frame = drawn[profile.parent[frame]]) {
      at = callers.child(at, profile.name[frame], frame);
    }
    callers.addOwn(at, own, node);
  }
  return { callees: callees.finish(Boolean(own.base)), callers: callers.finish(Boolean(own.base)) };
}
