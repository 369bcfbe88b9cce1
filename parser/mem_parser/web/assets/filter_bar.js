// The boxes for focus, ignore and hide, and how names are shown: what holds for the whole page. An expression that
// cannot be used changes nothing; the line below the boxes says why.

const BOX_WORDS = {
  focus: [phrase("Focus"), phrase("Only stacks with a matching frame")],
  ignore: [phrase("Ignore"), phrase("No stack with a matching frame")],
  hide: [phrase("Hide"), phrase("Remove matching frames from stacks")],
};
const TYPING_MS = 350;

class FilterBar {
  // set(changes): of the state
  constructor(profile, state, narrowing, set) {
    Object.assign(this, { profile, state, narrowing, set, inputs: {}, problems: {} });
    this.bar = element("div", "filters");
    this.bar.setAttribute("role", "search");
    this.bar.setAttribute("aria-label", phrase("Filters of the whole page"));
    this.opener = toggleControl("filters-button", phrase("Filters"), phrase("Which stacks and frames are shown"), () => this.toggle());
    this.opener.classList.add("opener");
    this.boxes = element("span", "filter-boxes", null, BOXES.map((name) => this.box(name)));
    this.bar.append(this.opener, this.boxes);
    this.clear = toggleControl("filters-clear", phrase("Clear"), phrase("Show everything again"), () => this.set({ focus: "", ignore: "", hide: "" }));
    this.clear.className = "move";
    this.boxes.append(this.clear);
    this.renew(profile, narrowing);
    this.note = element("p", "filter-note faint");
    this.note.id = "filter-note";
    this.problem = element("p", "filter-problem");
    this.problem.id = "filter-problem";
    this.problem.setAttribute("role", "alert");
    this.host = element("div", "filter-area", null, [this.bar, this.note, this.problem]);
  }

  // The boxes for other data of the same process.
  renew(profile, narrowing) {
    Object.assign(this, { profile, narrowing });
    if (profile.hasTemplates && !this.templates) this.addTemplates();
  }

  box(name) {
    const [label, title] = BOX_WORDS[name];
    const input = element("input", "filter-input");
    Object.assign(input, { type: "search", id: `filter-${name}`, spellcheck: false, title, placeholder: phrase("regular expression"), maxLength: LONGEST_PATTERN });
    input.autocapitalize = "off";
    input.setAttribute("aria-describedby", "filter-problem");
    let timer = 0;
    const commit = () => { clearTimeout(timer); this.commit(name, input.value); };
    input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(commit, TYPING_MS); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") input.value = "";
      if (event.key === "Enter" || event.key === "Escape") { commit(); event.preventDefault(); }
      event.stopPropagation();
    });
    this.inputs[name] = input;
    return element("label", "control filter", null, [element("span", "control-label", label), input]);
  }

  addTemplates() {
    this.templates = toggleControl("toggle-templates", phrase("Template arguments"), phrase("C++ names with their template arguments"),
      () => this.set({ templates: !this.state.get("templates") }));
    this.boxes.append(this.templates);
  }

  toggle() {
    const open = this.bar.classList.toggle("open");
    this.opener.setAttribute("aria-expanded", String(open));
  }

  async commit(name, text) {
    const problem = text ? (await this.profile.answers.ask(text)).problem ?? "" : "";
    // The reader may have typed on meanwhile.
    if (this.inputs[name].value !== text) return;
    this.problems[name] = problem;
    if (!this.problems[name] && text !== this.state.get(name)) this.set({ [name]: text });
    else this.showProblems();
  }

  // values: what the part of the page that is shown takes of the state; scope: what the filters do not change on it
  refresh(values, scope = "") {
    for (const [name, input] of Object.entries(this.inputs)) {
      const value = this.state.get(name);
      if (document.activeElement !== input) {
        input.value = value;
        this.problems[name] = this.narrowing.problem(value);
      }
    }
    const shown = BOXES.some((name) => this.state.get(name));
    this.clear.hidden = !shown;
    this.opener.setAttribute("aria-pressed", String(shown));
    this.templates?.setAttribute("aria-pressed", String(this.state.get("templates")));
    this.note.textContent = this.noteText(values, scope);
    this.note.hidden = !this.note.textContent;
    this.showProblems();
  }

  showProblems() {
    const wrong = BOXES.filter((name) => this.problems[name]);
    for (const [name, input] of Object.entries(this.inputs)) {
      input.classList.toggle("wrong", wrong.includes(name));
      input.setAttribute("aria-invalid", String(wrong.includes(name)));
    }
    this.problem.textContent = wrong.map((name) => phrase("{box}: {problem}; nothing changed", { box: BOX_WORDS[name][0], problem: this.problems[name] })).join(". ");
    this.problem.hidden = !wrong.length;
  }

  // "only focus parse: 2.63 MiB of 4.64 MiB (56.6 %) in use", with what the page cannot tell.
  noteText(values, scope) {
    const profile = this.narrowing.of(values);
    if (!this.narrowing.narrows) return "";
    const used = BOXES.filter((name) => values[name] && !this.narrowing.problem(values[name]));
    const sum = (column, chosen = null) => column.reduce((total, value, node) => total + (chosen && !chosen[node] ? 0 : value), 0);
    const plain = { ...values, diff: false, count: values.count === "change" ? "inuse" : values.count };
    const all = this.narrowing.whole.measure(plain).value;
    const [left, whole, unsure] = [sum(profile.measure(plain).value), sum(all), sum(all, this.narrowing.undecided)];
    const words = measureWords(countOf(plain), values.unit);
    const amount = (value) => amountText(value, values.unit);
    const parts = [phrase("only {boxes}: {part} of {whole} ({share}) {what}", {
      boxes: used.map((name) => `${name} ${values[name]}`).join(", "), part: amount(left), whole: amount(whole), share: percentText(left, whole), what: words,
    })];
    if (unsure > 0) parts.push(phrase("of {amount} in \u201c{frame}\u201d this page cannot tell", { amount: amount(unsure), frame: REST_FRAME }));
    if (scope) parts.push(scope);
    return parts.join("; ");
  }
}
