// The keyboard: single keys change the picture, arrows walk from frame to frame.

const KEY_HELP = [
  [phrase("Click, Enter"), phrase("zoom to the frame")],
  ["Backspace, Esc", phrase("back to the previous view")],
  ["0", phrase("show everything")],
  [phrase("Arrows"), phrase("walk: to caller, callee and neighbours")],
  ["/", phrase("search; Enter and Shift+Enter step through matches, n and p too")],
  ["f", phrase("flame or icicle: root at the bottom or at the top")],
  ["i", phrase("invert: start from the functions that allocate")],
  [phrase("s, right click"), phrase("sandwich: callers and callees of one function")],
  ["l", phrase("one frame for every source line of a function")],
  ["c", phrase("collapse recursion")],
  ["a", phrase("hide frames of allocators and libraries")],
  ["m", phrase("hide Python's import system")],
  ["w", phrase("names of threads and tasks, where the file has them")],
  ["d", phrase("difference to the base, where there is one")],
  ["v", phrase("next value: in use, allocated, freed")],
  ["b", phrase("bytes or blocks")],
  ["t", phrase("dark or light")],
  ["e", phrase("show the full timeline; arrows move a handle, with Shift ten times as far")],
];

class Keys {
  // actions by key; `active()` tells whether the graph is the thing on screen. An open dialog has the keys to itself.
  constructor(actions, active) {
    document.addEventListener("keydown", (event) => {
      if (!active() || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest?.("input, select, textarea, dialog")) return;
      const isButton = event.target.closest?.("button, a, summary, [role=tab]");
      if (isButton && ["Enter", " ", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const act = actions[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }
}

class HelpDialog {
  constructor(notes) {
    this.dialog = element("dialog", "help");
    this.dialog.setAttribute("aria-label", phrase("Keys and meanings"));
    const close = element("button", "move", phrase("Close"));
    close.type = "button";
    close.addEventListener("click", () => this.dialog.close());
    const keys = element("dl", "", null, KEY_HELP.flatMap(([key, text]) => [element("dt", "", key), element("dd", "", text)]));
    this.dialog.append(element("h2", "", phrase("Keys and meanings")), keys,
      ...notes.map((note) => element("p", "", note)), close);
    document.body.append(this.dialog);
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    // A click beside the dialog leaves the focus on nothing in it.
    document.addEventListener("keydown", (event) => { if (!this.dialog.contains(event.target)) this.key(event); });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog && !this.inside(event)) this.dialog.close(); });
  }

  key(event) {
    if (!this.dialog.open || event.key !== "?" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.dialog.close();
  }

  inside({ clientX, clientY }) {
    const box = this.dialog.getBoundingClientRect();
    return clientX >= box.left && clientX <= box.right && clientY >= box.top && clientY <= box.bottom;
  }

  toggle() {
    if (this.dialog.open) this.dialog.close();
    else this.dialog.showModal();
  }
}

// The neighbour of `node` in one direction, or `node` itself. Never outside the zoomed part, except upwards.
function neighbour(view, node, direction) {
  const parent = view.parent[node];
  if (direction === "parent") return parent >= 0 ? parent : node;
  if (direction === "child") return view.childrenOf(node)[0] ?? node;
  if (parent < 0) return node;
  const siblings = view.childrenOf(parent);
  const at = siblings.indexOf(node) + (direction === "next" ? 1 : -1);
  return siblings[at] ?? node;
}
