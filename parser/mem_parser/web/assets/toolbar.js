// The controls above a flame graph. They only show and change the state; what it means is the explorer's business.

function choiceControl(label, choices, value, onChange) {
  const select = element("select");
  for (const [key, text] of choices) {
    const option = element("option", "", text);
    option.value = String(key);
    select.append(option);
  }
  select.value = String(value);
  select.addEventListener("change", () => onChange(select.value));
  return element("label", "control", null, [element("span", "control-label", label), select]);
}

function toggleControl(id, label, title, onClick) {
  const button = element("button", "toggle", label);
  button.type = "button";
  button.id = id;
  button.title = title;
  button.addEventListener("click", onClick);
  return button;
}

const TOGGLES = [
  ["flip", phrase("Flame"), phrase("Root at the bottom instead of the top (f)")],
  ["invert", phrase("Invert"), phrase("Callers below callees: start from the functions that allocate (i)")],
  ["lines", phrase("By line"), phrase("One frame for every source line of a function (l)")],
  ["collapse", phrase("Collapse recursion"), phrase("Draw repeated calls of a function to itself as one (c)")],
  ["hideAllocators", phrase("Hide libraries"), phrase("Charge what malloc, operator new and libraries allocate to the program's own functions; show one frame for each call into a header-only library (a)")],
  ["hideImports", phrase("Hide imports"), phrase("Leave out the frames of Python's import system (m)")],
  ["labels", phrase("Threads and tasks"), phrase("Begin stacks with the names of their Python thread and asyncio task (w)")],
  ["diff", phrase("Difference"), phrase("Compare with the base profile (d)")],
];

function hasImports(profile) {
  return profile.nameKind.some((kind) => kind & KIND_IMPORT);
}

class Toolbar {
  // actions: set(changes), back(), forward(), reset(), step(direction), help()
  // together: bytes of all domains may be looked at in one
  constructor(host, profile, state, actions, together) {
    this.key = Toolbar.keyOf(profile);
    this.state = state;
    this.together = together;
    this.buttons = {};
    this.selects = {};
    this.bar = element("div", "toolbar");
    this.bar.setAttribute("role", "toolbar");
    this.bar.setAttribute("aria-label", phrase("Flame graph"));
    this.addOptions(profile, actions);
    this.addMoves(actions);
    this.addSearch(actions);
    host.append(this.bar);
  }

  // What of a profile the controls depend on.
  static keyOf(profile) {
    const { counts, threads, domains, hasDiff, hasLabels, hasLines } = profile;
    return JSON.stringify([counts, threads, domains, hasDiff, hasLabels, hasLines, hasImports(profile), [...new Set(profile.threadRows.thread)].sort()]);
  }

  // On a narrow screen the options open and close; elsewhere they always show.
  addOptions(profile, actions) {
    this.options = element("span", "options");
    const opener = toggleControl("options-button", phrase("Options"), phrase("What is drawn, and how"), () => {
      const open = this.bar.classList.toggle("open");
      opener.setAttribute("aria-expanded", String(open));
    });
    opener.classList.add("opener");
    opener.setAttribute("aria-expanded", "false");
    this.bar.append(opener, this.options);
    this.addSelects(profile, actions);
    this.addToggles(profile, actions);
  }

  addSelects(profile, actions) {
    const add = (name, label, choices, read) => {
      const control = choiceControl(label, choices, this.state.get(name), (text) => actions.set({ [name]: read(text) }, true));
      control.dataset.setting = name;
      this.selects[name] = control.querySelector("select");
      this.options.append(control);
    };
    const group = (name, label, choices, read) => choices.length > 1 && add(name, label, choices, read);
    group("count", phrase("Show"), profile.counts.map((count) => [count, COUNT_WORDS[count]]), String);
    add("unit", phrase("In"), [["space", phrase("bytes")], ["objects", phrase("blocks")]], String);
    const threads = [...new Set(profile.threadRows.thread)].filter((k) => k > 0).map((k) => k - 1);
    if (threads.length) {
      const words = threads.map((k) => [k, profile.threads[k]]).sort((a, b) => a[1].localeCompare(b[1]));
      add("thread", phrase("Thread"), [[-1, phrase("all threads")], ...words], Number);
    }
    group("domain", phrase("Domain"), profile.domains.length > 1
      ? [...(this.together ? [[-1, phrase("all domains")]] : []), ...profile.domains.map((domain, k) => [k, domain])] : [], Number);
  }

  addToggles(profile, actions) {
    for (const [name, label, title] of TOGGLES) {
      if (name === "diff" && !profile.hasDiff) continue;
      if (name === "labels" && !profile.hasLabels) continue;
      if (name === "lines" && !profile.hasLines) continue;
      if (name === "hideImports" && !hasImports(profile)) continue;
      const button = toggleControl(`toggle-${name}`, label, title, () => actions.set({ [name]: !this.state.get(name) }));
      this.buttons[name] = button;
      this.options.append(button);
    }
  }

  addMoves(actions) {
    const move = (name, label, title, act) => {
      const button = element("button", "move", label);
      Object.assign(button, { type: "button", title, id: `move-${name}` });
      if (label.length === 1) button.setAttribute("aria-label", title);
      button.addEventListener("click", act);
      this.buttons[name] = button;
      return button;
    };
    this.bar.append(element("span", "group", null, [
      move("back", "\u2190", phrase("Back to the previous view (Backspace)"), actions.back),
      move("forward", "\u2192", phrase("Forward again"), actions.forward),
      move("reset", phrase("Reset zoom"), phrase("Show everything (0)"), actions.reset),
    ]));
  }

  addSearch(actions) {
    const input = element("input", "search-input");
    Object.assign(input, { type: "search", placeholder: phrase("Search: regular expression (/)"), id: "search", spellcheck: false });
    input.setAttribute("aria-label", phrase("Search function, file or module by regular expression"));
    input.autocapitalize = "off";
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => actions.set({ q: input.value }), 120);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        clearTimeout(timer);
        if (this.state.get("q") !== input.value) actions.set({ q: input.value });
        else actions.step(event.shiftKey ? -1 : 1);
        event.preventDefault();
      } else if (event.key === "Escape") {
        clearTimeout(timer);
        input.value = "";
        actions.set({ q: "" });
        input.blur();
      }
      event.stopPropagation();
    });
    this.input = input;
    this.found = element("output", "search-found");
    this.found.id = "search-found";
    const help = element("button", "move", "?");
    Object.assign(help, { type: "button", title: phrase("Keys and meanings (?)"), id: "help-button" });
    help.addEventListener("click", actions.help);
    this.bar.append(element("span", "group search", null, [input, this.found]), help);
  }

  refresh({ canGoForward, zoomed, searchText, searchProblem }) {
    for (const [name] of TOGGLES) {
      this.buttons[name]?.setAttribute("aria-pressed", String(Boolean(this.state.get(name))));
    }
    for (const [name, select] of Object.entries(this.selects)) select.value = String(this.state.get(name));
    const byThread = this.state.get("thread") >= 0;
    if (this.selects.count) this.selects.count.disabled = byThread;
    if (this.buttons.diff) this.buttons.diff.disabled = byThread;
    const sandwich = this.state.get("sandwich") > 0;
    for (const name of ["flip", "invert"]) this.buttons[name].disabled = sandwich;
    this.buttons.back.disabled = !this.state.canGoBack;
    this.buttons.forward.disabled = !canGoForward;
    this.buttons.reset.disabled = !zoomed;
    if (document.activeElement !== this.input) this.input.value = this.state.get("q");
    this.found.textContent = searchText;
    this.input.classList.toggle("wrong", Boolean(searchProblem));
    this.input.setAttribute("aria-invalid", String(Boolean(searchProblem)));
  }
}
