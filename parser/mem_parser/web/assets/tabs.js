// Tabs: buttons that arrow keys walk, and a panel for each. The state's `tab` is the one that shows.

class Tabs {
  // tabs: [key, label] each
  constructor(bar, host, tabs, state, label) {
    Object.assign(this, { tabs, state, panels: {}, buttons: {} });
    bar.setAttribute("role", "tablist");
    bar.setAttribute("aria-label", label);
    for (const [key, text] of tabs) {
      const button = element("button", "tab", text);
      Object.assign(button, { type: "button", id: `tab-${key}` });
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", `panel-${key}`);
      button.addEventListener("click", () => this.open(key));
      const panel = element("section", `tab-panel panel-${key}`);
      panel.id = `panel-${key}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      this.buttons[key] = button;
      this.panels[key] = panel;
      bar.append(button);
      host.append(panel);
    }
    bar.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const keys = this.tabs.map(([key]) => key).filter((key) => !this.buttons[key].hidden);
    const next = keys[(keys.indexOf(this.state.get("tab")) + by + keys.length) % keys.length];
    this.open(next);
    this.buttons[next].focus();
  }

  open(tab) {
    if (tab !== this.state.get("tab")) this.state.set({ tab }, { step: true });
  }

  show(tab) {
    for (const [key, panel] of Object.entries(this.panels)) {
      panel.hidden = key !== tab;
      this.buttons[key].setAttribute("aria-selected", String(key === tab));
      if (key === tab && key !== this.shown) this.buttons[key].scrollIntoView?.({ block: "nearest", inline: "center" });
      this.buttons[key].tabIndex = key === tab ? 0 : -1;
    }
    this.shown = tab;
  }
}
