// The stacks as a tree of rows that open and close; rows are made when their parent opens.
// It shows the same view as the flame graph: count, filters and hidden frames are chosen there.

const TREE_CHILDREN = 60;

class TreeTab {
  constructor(host, explorer) {
    this.explorer = explorer;
    this.note = element("p", "faint");
    const hottest = element("button", "move", phrase("Open the heaviest path"));
    hottest.type = "button";
    hottest.id = "tree-heaviest";
    hottest.addEventListener("click", () => this.openHeaviest());
    const close = element("button", "move", phrase("Close all"));
    close.type = "button";
    close.addEventListener("click", () => { this.view = null; this.show(); });
    this.list = element("ul", "tree");
    this.list.setAttribute("role", "tree");
    this.list.setAttribute("aria-label", phrase("Call tree"));
    this.list.addEventListener("keydown", (event) => this.key(event));
    host.append(element("div", "table-tools", null, [this.note, hottest, close]), this.list);
  }

  show() {
    const view = this.explorer.views[0];
    if (view === this.view) return;
    this.view = view;
    const { state, profile } = this.explorer;
    const thread = state.get("thread"), domain = state.get("domain");
    const words = [countedWords(countOf(state.values), state.get("unit"))];
    if (profile.window) words.push(profile.times.windowText(state.values));
    if (thread >= 0) words.push(phrase("thread {name}", { name: profile.threads[thread] }));
    if (domain >= 0) words.push(profile.domains[domain]);
    if (state.get("invert")) words.push(phrase("inverted"));
    this.note.textContent = phrase("{what}; threads and hidden frames are chosen in the flame graph. Arrow keys walk and open.", { what: words.join(", ") });
    const root = this.makeRow(0, 1);
    this.list.replaceChildren(root);
    this.open(root);
    root.firstChild.tabIndex = 0;
  }

  // By name, which branches are open and which row has the focus.
  get inWords() {
    const { view } = this;
    if (!view) return null;
    const keyOf = (line) => this.keyOf(view, line.parentNode.node);
    const open = this.list.querySelectorAll(".tree-line[aria-expanded='true']");
    const focused = document.activeElement?.closest?.(".tree-line");
    return { open: new Set([...open].map(keyOf)), focus: focused && this.list.contains(focused) ? keyOf(focused) : null };
  }

  keyOf(view, node) {
    return view.path(node).map((k) => frameTitle(this.explorer, view, k)).join("\0");
  }

  // Shows other data with the same branches open.
  showAgain({ open, focus }) {
    this.view = null;
    this.show();
    const pending = [this.list.firstChild];
    while (pending.length) {
      const item = pending.pop();
      if (item.node === undefined) continue;
      const key = this.keyOf(this.view, item.node);
      if (open.has(key)) this.open(item);
      else this.close(item);
      if (key === focus) this.focus(item);
      pending.push(...item.querySelectorAll(":scope > ul > li"));
    }
  }

  makeRow(node, level) {
    const { view, explorer } = this;
    const leaf = view.childrenOf(node).length === 0;
    const name = view.name[node];
    const source = view.source[node];
    const place = name ? explorer.profile.place(name, source >= 0 ? explorer.profile.line[source] : 0) : "";
    const change = Boolean(explorer.profile.window && view.hasBase);
    const share = change ? view.width[node] / (view.width[0] || 1) : view.value[node] / (view.value[0] || 1);
    const bar = element("span", "tree-bar");
    bar.style.width = `${(100 * Math.min(share, 1)).toFixed(2)}%`;
    const line = element("div", "tree-line", null, [
      element("span", "tree-mark", leaf ? "\u00b7" : "\u25b8"),
      element("span", "tree-value", change ? changeText(view, node, explorer) : estimateText(view.value[node], view.variance[node], view.samples[node], explorer.unit, explorer)),
      element("span", "tree-share", null, [bar, element("span", "", change ? "" : percentText(view.value[node], view.value[0]))]),
      element("span", "tree-name", frameTitle(explorer, view, node)),
      element("span", "faint tree-place", null, [place ? placeLink(explorer, place, name) : name ? baseName(explorer.profile.nameModule[name]) : ""]),
    ]);
    line.setAttribute("role", "treeitem");
    line.setAttribute("aria-level", String(level));
    line.tabIndex = -1;
    if (!leaf) line.setAttribute("aria-expanded", "false");
    const item = element("li", "", null, [line]);
    item.setAttribute("role", "none");
    Object.assign(item, { node, level, leaf });
    line.addEventListener("click", () => { this.focus(item); this.toggle(item); });
    return item;
  }

  toggle(item) {
    if (item.leaf) return;
    if (item.firstChild.getAttribute("aria-expanded") === "true") this.close(item);
    else this.open(item);
  }

  close(item) {
    item.firstChild.setAttribute("aria-expanded", "false");
    item.firstChild.querySelector(".tree-mark").textContent = "\u25b8";
    item.querySelector(":scope > ul")?.remove();
  }

  open(item) {
    if (item.leaf || item.querySelector(":scope > ul")) return;
    item.firstChild.setAttribute("aria-expanded", "true");
    item.firstChild.querySelector(".tree-mark").textContent = "\u25be";
    // A chain of single calls stays at one depth: deep stacks would leave the screen otherwise.
    const below = element("ul", this.view.childrenOf(item.node).length === 1 ? "chain" : "");
    below.setAttribute("role", "group");
    item.append(below);
    this.addChildren(item, below, 0);
    // A frame with a single callee says nothing alone: open on to where the stacks part.
    const only = this.view.childrenOf(item.node).length === 1 ? below.firstChild : null;
    if (only && item.level < 400) this.open(only);
  }

  addChildren(item, below, from) {
    const children = this.view.childrenOf(item.node);
    const to = Math.min(from + TREE_CHILDREN, children.length);
    for (let k = from; k < to; k += 1) below.append(this.makeRow(children[k], item.level + 1));
    if (to === children.length) return;
    const more = element("button", "move", phrase("{number} more", { number: countText(children.length - to) }));
    more.type = "button";
    more.addEventListener("click", () => { more.parentNode.remove(); this.addChildren(item, below, to); });
    below.append(element("li", "", null, [more]));
  }

  openHeaviest() {
    let item = this.list.firstChild;
    while (item && !item.leaf) {
      this.open(item);
      const next = item.querySelector(":scope > ul > li");
      if (!next || next.node === undefined) break;
      item = next;
      if (this.view.value[item.node] < 0.05 * this.view.value[0]) break;
    }
    this.focus(item);
    item?.firstChild.scrollIntoView({ block: "nearest" });
  }

  focus(item) {
    if (!item) return;
    for (const line of this.list.querySelectorAll(".tree-line[tabindex='0']")) line.tabIndex = -1;
    item.firstChild.tabIndex = 0;
    item.firstChild.focus();
  }

  key(event) {
    const line = event.target.closest(".tree-line");
    if (!line) return;
    const item = line.parentNode;
    const lines = [...this.list.querySelectorAll(".tree-line")];
    const at = lines.indexOf(line);
    const isOpen = line.getAttribute("aria-expanded") === "true";
    const steps = {
      ArrowDown: () => this.focus(lines[at + 1]?.parentNode),
      ArrowUp: () => this.focus(lines[at - 1]?.parentNode),
      ArrowRight: () => isOpen ? this.focus(lines[at + 1]?.parentNode) : this.open(item),
      ArrowLeft: () => isOpen ? this.close(item) : this.focus(item.parentNode.closest("li")),
      Home: () => this.focus(lines[0].parentNode), End: () => this.focus(lines[lines.length - 1].parentNode),
      Enter: () => this.toggle(item), " ": () => this.toggle(item),
    };
    if (!steps[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    steps[event.key]();
  }
}
