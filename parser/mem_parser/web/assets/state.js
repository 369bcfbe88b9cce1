// What the reader chose, kept in the URL's fragment so that a link shows the same picture and Back works.
// A fragment is input: every value is checked against what the setting may be, anything else is its default.

const STATE_RESTS_MS = 250;

class State {
  // settings: name -> { initial, parse(text) -> value or undefined }
  constructor(settings, onChange) {
    this.settings = settings;
    this.onChange = onChange;
    this.steps = 0;
    // Numbers of data that changes: not in the address, but by name in the entries of the history.
    this.unshared = [];
    this.inWords = () => ({});
    this.fromWords = () => {};
    this.values = this.parse(location.hash);
    addEventListener("popstate", (event) => {
      clearTimeout(this.timer);
      this.steps = event.state?.steps ?? 0;
      this.values = this.parse(location.hash);
      this.fromWords(event.state?.words ?? {});
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
      if (value !== setting.initial && !this.unshared.includes(name)) parts.set(name, typeof value === "boolean" ? String(Number(value)) : String(value));
    }
    return `#${parts}`;
  }

  // Other bounds and first values, of other data: what was as at first is so again.
  renew(settings) {
    for (const [name, setting] of Object.entries(settings)) {
      const value = this.values[name], known = this.settings[name];
      if (!known || value === known.initial) this.values[name] = setting.initial;
    }
    this.settings = settings;
  }

  get(name) {
    return this.values[name];
  }

  // step: a step that Back undoes; otherwise the current entry changes in place.
  // What changes many times a second (settings that are `often`) is written when it rests: browsers refuse more.
  set(changes, { step = false } = {}) {
    Object.assign(this.values, changes);
    if (!step && Object.keys(changes).some((name) => this.settings[name].often)) this.writeSoon();
    else this.write(step);
    this.onChange();
  }

  writeSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(false), STATE_RESTS_MS);
  }

  write(step) {
    clearTimeout(this.timer);
    if (step) this.steps += 1;
    try {
      const entry = { steps: this.steps, words: this.inWords() };
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
