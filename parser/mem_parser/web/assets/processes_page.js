// The list of processes with a sampler, as `mem_profiler ps` has it, and of others that may get one.
// Block `live`: { place, control: whether this server attaches, most: other processes that are listed }.

const LIST_EVERY_MS = 2000;

class ProcessesPage {
  constructor(settings) {
    this.state = new State({ theme: setting.choice("auto", ["auto", "light", "dark"]) }, () => applyTheme(this.state.get("theme")));
    applyTheme(this.state.get("theme"));
    this.kept = {};
    this.keptOthers = {};
    this.settings = settings;
    document.getElementById("header").append(titleLine("Processes with a sampler", this.state), element("p", "faint", this.settings.place));
    this.host = document.getElementById("processes");
    this.otherHost = document.getElementById("others");
    this.trouble = document.getElementById("trouble");
    this.feed = new Feed({ address: () => "/processes", answer: (data) => this.show(data), trouble: (text) => this.showTrouble(text) });
  }

  show({ rows, more, others }) {
    if (!this.failed) this.trouble.hidden = true;
    const key = JSON.stringify([rows, more]), otherKey = JSON.stringify(others.map(({ pid, command }) => [pid, command]));
    if (key !== this.key) {
      this.key = key;
      this.fill(rows, more);
    }
    if (otherKey !== this.otherKey) {
      this.otherKey = otherKey;
      this.fillOthers(others);
    }
    document.documentElement.dataset.ready = "1";
    return LIST_EVERY_MS;
  }

  fill(rows, more) {
    const focused = document.activeElement?.id;
    this.host.replaceChildren();
    if (!rows.length) {
      this.host.append(element("p", "", "No process runs with the sampler."), element("p", "", null, [
        element("code", "", "mem_profiler run -- PROG ARGS"), " starts one, ", element("code", "", "mem_profiler attach PID"), " enters one that runs."]));
      return;
    }
    const number = (key, label, text) => ({ key, label, kind: "number", value: (row) => row[key], text: (row) => row[key] === null ? "" : text(row[key]) });
    new DataTable(this.host, [
      number("pid", "Pid", String),
      { key: "command", label: "Command", kind: "text", main: true, text: (row) => row.command, cell: (row) => this.link(row) },
      { key: "user", label: "User", kind: "text", text: (row) => row.user },
      { key: "state", label: "State", kind: "text", text: (row) => row.state, cell: (row) => this.stateOf(row) },
      number("rate_bytes", "1 sample per", bytesText), number("samples", "Samples", countText),
      number("live_bytes", "Live \u2248", bytesText), number("lost", "Lost", countText),
    ], rows, { search: (row) => `${row.pid} ${row.command} ${row.user} ${row.state}`, name: "processes", kept: this.kept });
    if (more) this.host.append(element("p", "faint", `and ${countText(more)} more that ended: mem_profiler ps`));
    if (focused) document.getElementById(focused)?.focus();
  }

  stateOf(row) {
    if (!row.attached) return element("span", "", row.state);
    const button = toggleControl(`detach-${row.pid}`, "Detach", "Take out the sampler that this server put in",
      () => this.order(row, "detach"));
    return element("span", "process-state", null, [row.state, " ", button]);
  }

  fillOthers(others) {
    const focused = document.activeElement?.id;
    this.otherHost.replaceChildren();
    if (!others.length) return;
    this.otherHost.append(element("h2", "", "Without a sampler"), element("p", "faint",
      `The ${others.length === this.settings.most ? `${countText(others.length)} largest` : "others"}. `
      + "Attach loads the sampler. It does not start a capture."));
    new DataTable(this.otherHost, [
      { key: "pid", label: "Pid", kind: "number", value: (row) => row.pid, text: (row) => String(row.pid) },
      { key: "command", label: "Command", kind: "text", main: true, text: (row) => row.command },
      { key: "user", label: "User", kind: "text", text: (row) => row.user },
      { key: "rss_bytes", label: "RSS", kind: "number", value: (row) => row.rss_bytes, text: (row) => bytesText(row.rss_bytes) },
      { key: "attach", label: "Attach", kind: "text", text: (row) => `mem_profiler attach ${row.pid}`, cell: (row) => this.attachOf(row) },
    ], others, { search: (row) => `${row.pid} ${row.command} ${row.user}`, name: "others", kept: this.keptOthers, sort: "rss_bytes" });
    if (focused) document.getElementById(focused)?.focus();
  }

  attachOf(row) {
    if (!this.settings.control) return element("code", "", `mem_profiler attach ${row.pid}`);
    return toggleControl(`attach-${row.pid}`, "Attach\u2026", "Put the sampler into this process", () => this.ask(row));
  }

  // Asks before something is done to a process.
  ask(row) {
    const dialog = element("dialog", "question");
    const close = () => { dialog.close(); dialog.remove(); };
    const yes = toggleControl("attach-yes", "Attach", "", () => { close(); this.order(row, "attach"); });
    const no = toggleControl("attach-no", "Cancel", "", close);
    dialog.append(element("p", "", `Put the sampler into ${row.command} (pid ${row.pid}, ${row.user})?`),
      element("p", "faint", "One of its threads is stopped for some milliseconds. This server takes the hooks out again when it ends."),
      element("p", "question-answers", null, [yes, no]));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  }

  async order(row, name) {
    this.say(name === "attach" ? `attaching to ${row.command} (pid ${row.pid})` : `detaching from ${row.command} (pid ${row.pid})`);
    try {
      await order(`/p/${row.pid}/${name}`);
      this.say("");
    } catch (error) {
      this.say(error.message);
    }
    this.feed.again();
  }

  // What an order led to, until the next one.
  say(text) {
    this.failed = text !== "";
    this.trouble.textContent = text;
    this.trouble.hidden = !text;
  }

  link(row) {
    if (row.dead) return element("span", "", row.command);
    const link = element("a", "process", row.command || "?");
    link.href = `/p/${row.pid}`;
    return link;
  }

  showTrouble(text) {
    this.failed = false;
    this.trouble.textContent = text;
    this.trouble.hidden = false;
  }
}

startPage(({ live }) => new ProcessesPage(live));
