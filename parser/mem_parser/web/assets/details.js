// What one frame is, in words: the tooltip beside the pointer and the line below the graph.

// [label, text] pairs for a node of a view.
function frameFacts(explorer, view, node) {
  const { profile, unit } = explorer;
  const name = view.name[node];
  const whole = view.width[0];
  const facts = [];
  if (view.hasBase) {
    const [now, before] = profile.window ? [phrase("at the end"), phrase("at the beginning")] : [phrase("now"), phrase("base")];
    facts.push([now, estimateText(view.value[node], view.variance[node], view.samples[node], unit, explorer)]);
    facts.push([before, estimateText(view.base[node], view.baseVariance[node], view.base[node] > 0 ? 1 : 0, unit, explorer)]);
    facts.push([phrase("change"), changeText(view, node, explorer)]);
  } else {
    const share = percentText(view.value[node], whole);
    facts.push([explorer.countWords, `${estimateText(view.value[node], view.variance[node], view.samples[node], unit, explorer)} (${share})`]);
    const downward = !explorer.state.get("invert") && view === explorer.views[0];
    if (node > 0 && downward && view.ownValue[node] !== view.value[node]) {
      facts.push([phrase("own"), `${amountText(view.ownValue[node], unit)} (${percentText(view.ownValue[node], whole)})`]);
    }
  }
  facts.push([phrase("samples"), countText(view.samples[node])]);
  if (node === 0 && name === 0) return facts;
  const source = view.source[node];
  const place = profile.place(name, source >= 0 ? profile.line[source] : 0);
  if (place) facts.push([phrase("at"), place]);
  // The module of a Python function is its file.
  const module = profile.nameModule[name];
  if (module && module !== profile.nameFile[name]) facts.push([phrase("in"), module]);
  if (source > 0 && profile.inlined[source]) facts.push(["", phrase("inlined into its caller")]);
  return facts;
}

function changeText(view, node, { unit, exact, unseen }) {
  const delta = view.value[node] - view.base[node];
  const variance = changeVariance(view, node);
  const ends = exact ? changeInterval95(delta, variance, unseen[unit]) : [];
  const text = withEnds(signedText(delta, unit), delta, ...ends.length ? ends : [null, null], unit, true);
  return `${text} \u2013 ${changeWord(view, node, exact, unseen[unit])}`;
}

function changeWord(view, node, exact, unseen) {
  const change = changeOf(view, node, exact, unseen);
  if (change === null) return exact ? phrase("inside the noise") : phrase("changed by less than 1 %");
  if (!(view.base[node] > 0)) return phrase("new");
  if (!(view.value[node] > 0)) return phrase("gone");
  return change > 0 ? phrase("grown") : phrase("shrunk");
}

function frameTitle(explorer, view, node) {
  const name = view.name[node];
  return name === 0 ? phrase("everything") : explorer.profile.names[name];
}

class Tooltip {
  constructor() {
    this.box = element("div", "tooltip");
    this.box.setAttribute("role", "tooltip");
    this.box.hidden = true;
    this.left = null;
    document.body.append(this.box);
    // What it stood beside has moved, or is no longer what the reader looks at.
    const leave = () => this.leave();
    for (const name of ["keydown", "contextmenu", "pointerdown", "wheel", "visibilitychange"]) {
      document.addEventListener(name, leave, { capture: true, passive: true });
    }
    document.documentElement.addEventListener("pointerleave", leave);
    for (const name of ["blur", "resize", "hashchange", "popstate"]) addEventListener(name, leave);
  }

  // Stays away until the pointer moves: a browser tells a resting pointer that the page below it changed.
  leave() {
    if (!this.box.hidden) this.left = this.at;
    this.hide();
  }

  show(title, facts, event) {
    this.at = `${event.screenX},${event.screenY}`;
    if (this.left === this.at) return;
    this.left = null;
    this.box.replaceChildren(element("strong", "", title), ...facts.map(([label, text]) =>
      element("div", "", null, [element("span", "fact-label", label), " ", element("span", "", text)])));
    this.box.hidden = false;
    const box = this.box.getBoundingClientRect();
    const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - box.width - 10 : event.clientX + 14;
    const top = event.clientY + 16 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16;
    this.box.style.left = `${Math.max(left, 2)}px`;
    this.box.style.top = `${Math.max(top, 2)}px`;
  }

  hide() {
    this.box.hidden = true;
  }
}

// The line below the graph: the selected frame, else the zoomed one, with what can be done with it.
class Details {
  constructor(host, actions) {
    this.title = element("strong", "details-title");
    this.facts = element("span", "details-facts");
    this.buttons = element("span", "details-buttons");
    this.actions = actions;
    this.line = element("div", "details", null, [this.title, this.facts, this.buttons]);
    this.line.setAttribute("aria-live", "polite");
    host.append(this.line);
  }

  show(title, facts, buttons) {
    this.title.textContent = title;
    this.facts.replaceChildren(...facts.map(([label, text]) =>
      element("span", "fact", null, [element("span", "fact-label", label), " ", element("span", "", text)])));
    this.buttons.replaceChildren(...buttons.map(([label, act]) => {
      const button = element("button", "move", label);
      button.type = "button";
      button.addEventListener("click", act);
      return button;
    }));
  }
}
