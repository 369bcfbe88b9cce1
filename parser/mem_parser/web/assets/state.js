// What the reader chose, kept in the URL's fragment so that a link shows the same picture and Back works.
// A fragment is input: every value is checked against what the setting may be, anything else is its default.

class State {
  // settings: name -> { initial, parse(text) -> value or undefined }
  constructor(settings, onChange) {
    this.settings = settings;
    this.onChange = onChange;
    this.steps = 0;
    this.values = this.parse(location.hash);
    addEventListener("popstate", (event) => {
      this.steps = event.state?.steps ?? 0;
      this.values = this.parse(location.hash);
      this.onChange();
    });
  }

  parse(fragment) {
    const values = {};
    const given = new URLSearchParams(fragment.replace(/^#/, ""));
    for (const [name, setting] of Object.entries(this.settings)) {
      const parsed = given.has(name) ? setting.parse(given.get(name)) : undefined;
      values[name] = parsed === undefined ? setting.initial : parsed;
    }
    return values;
  }

  fragment() {
    const parts = new URLSearchParams();
    for (const [name, setting] of Object.entries(this.settings)) {
      const value = this.values[name];
      if (value !== setting.initial) parts.set(name, typeof value === "boolean" ? String(Number(value)) : String(value));
    }
    return `#${parts}`;
  }

  get(name) {
    return this.values[name];
  }

  // step: a step that Back undoes; otherwise the current entry changes in place.
  set(changes, { step = false } = {}) {
    Object.assign(this.values, changes);
    this.write(step);
    this.onChange();
  }

  write(step) {
    if (step) this.steps += 1;
    try {
      const entry = { steps: this.steps };
      if (step) history.pushState(entry, "", this.fragment());
      else history.replaceState(entry, "", this.fragment());
    } catch {
      // A page inside a sandboxed frame has no history; the picture changes all the same.
    }
  }

  get canGoBack() {
    return this.steps > 0;
  }

  back() {
    if (this.canGoBack) history.back();
  }
}

const setting = {
  flag: (initial) => ({ initial, parse: (text) => text === "1" ? true : text === "0" ? false : undefined }),
  choice: (initial, choices) => ({ initial, parse: (text) => choices.includes(text) ? text : undefined }),
  number: (initial, below) => ({
    initial,
    parse: (text) => /^\d{1,9}$/.test(text) && Number(text) < below ? Number(text) : undefined,
  }),
  text: (initial, longest) => ({ initial, parse: (text) => text.slice(0, longest) }),
};
