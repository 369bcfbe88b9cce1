// The list of processes with a sampler, as `mem_profiler ps` has it, and of others that may get one.
// Block `live`: { place, control: whether this server attaches, most: other processes that are listed }.

const LIST_EVERY_MS = 2000;
const STATES = [english("capturing"), english("idle"), english("starting"), english("stopped, not written"), english("dead, not written"), english("idle, behind the program's own malloc"), english("unreadable")];

function stateText(state) {
  return STATES.includes(state) ? phrase(state) : state;
}

class ProcessesPage {
  constructor(settings) {
    this.state = new State({ theme: setting.choice("auto", ["auto", "light", "dark"]) }, () => applyTheme(this.state.get("theme")));
    applyTheme(this.state.get("theme"));
    this.kept = {};
    this.keptOthers = {};
    this.settings = settings;
    document.getElementById("header").append(titleLine(phrase("Processes with a sampler"), this.state), element("p", "faint", this.settings.place));
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
      this.host.append(element("p", "", phrase("No process runs with the sampler.")), element("p", "", null, [
        element("code", "", "mem_profiler run -- PROG ARGS"), phrase(" starts one, "), element("code", "", "mem_profiler attach PID"), phrase(" enters one that runs.")]));
      return;
    }
    const number = (key, label, text) => ({ key, label, kind: "number", value: (row) => row[key], text: (row) => row[key] === null ? "" : text(row[key]) });
    new DataTable(this.host, [
      number("pid", english("Pid"), String),
      { key: "command", label: english("Command"), kind: "text", main: true, text: (row) => row.command, cell: (row) => this.link(row) },
      { key: "user", label: english("User"), kind: "text", text: (row) => row.user },
      { key: "state", label: english("State"), kind: "text", text: (row) => row.state, cell: (row) => this.stateOf(row) },
      number("rate_bytes", english("1 sample per"), bytesText), number("samples", english("Samples"), countText),
      number("live_bytes", english("Live \u2248"), bytesText), number("lost", english("Lost"), countText),
    ], rows, { search: (row) => `${row.pid} ${row.command} ${row.user} ${row.state}`, name: "processes", kept: this.kept });
    if (more) this.host.append(element("p", "faint", phrase("and {number} more that ended: mem_profiler ps", { number: countText(more) })));
    if (focused) document.getElementById(focused)?.focus();
  }

  stateOf(row) {
    if (!row.attached) return element("span", "", stateText(row.state));
    const button = toggleControl(`detach-${row.pid}`, phrase("Detach"), phrase("Take out the sampler that this server put in"),
      () => this.order(row, "detach"));
    return element("span", "process-state", null, [stateText(row.state), " ", button]);
  }

  fillOthers(others) {
    const focused = document.activeElement?.id;
    this.otherHost.replaceChildren();
    if (!others.length) return;
    this.otherHost.append(element("h2", "", phrase("Without a sampler")), element("p", "faint",
      (others.length === this.settings.most ? phrase("The {number} largest. ", { number: countText(others.length) }) : phrase("The others. "))
      + phrase("Attach loads the sampler. It does not start a capture.")));
    new DataTable(this.otherHost, [
      { key: "pid", label: english("Pid"), kind: "number", value: (row) => row.pid, text: (row) => String(row.pid) },
      { key: "command", label: english("Command"), kind: "text", main: true, text: (row) => row.command },
      { key: "user", label: english("User"), kind: "text", text: (row) => row.user },
      { key: "rss_bytes", label: english("RSS"), kind: "number", value: (row) => row.rss_bytes, text: (row) => bytesText(row.rss_bytes) },
      { key: "attach", label: english("Attach"), kind: "text", text: (row) => `mem_profiler attach ${row.pid}`, cell: (row) => this.attachOf(row) },
    ], others, { search: (row) => `${row.pid} ${row.command} ${row.user}`, name: "others", kept: this.keptOthers, sort: "rss_bytes" });
    if (focused) document.getElementById(focused)?.focus();
  }

  attachOf(row) {
    if (!this.settings.control) return element("code", "", `mem_profiler attach ${row.pid}`);
    return toggleControl(`attach-${row.pid}`, phrase("Attach\u2026"), phrase("Put the sampler into this process"), () => this.ask(row));
  }

  // Asks before something is done to a process.
  ask(row) {
    const dialog = element("dialog", "question");
    const close = () => { dialog.close(); dialog.remove(); };
    const yes = toggleControl("attach-yes", phrase("Attach"), "", () => { close(); this.order(row, "attach"); });
    const no = toggleControl("attach-no", phrase("Cancel"), "", close);
    dialog.append(element("p", "", phrase("Put the sampler into {command} (pid {pid}, {user})?", row)),
      element("p", "faint", phrase("One of its threads is stopped for some milliseconds. This server takes the hooks out again when it ends.")),
      element("p", "question-answers", null, [yes, no]));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  }

  async order(row, name) {
    this.say(name === "attach" ? phrase("attaching to {command} (pid {pid})", row) : phrase("detaching from {command} (pid {pid})", row));
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
