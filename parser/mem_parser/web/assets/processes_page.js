// The list of processes with a sampler, as `mem_profiler ps` has it, and of others that may get one.
// Block `live`: { place, control: whether this server attaches }.
// Living processes come first, the largest before others; ended ones are folded.

const LIST_EVERY_MS = 2000;
const LEFT = [english("detached, not written"), english("before exec, not written")];
const STATES = [...LEFT, english("capturing"), english("idle"), english("starting"), english("stopped, not written"), english("dead, not written"), english("idle, behind the program's own malloc"), english("idle, beside the program's own malloc"), english("capturing, without the program's own malloc"), english("unreadable")];

function stateText(state) {
  return STATES.includes(state) ? phrase(state) : state;
}

class ProcessesPage {
  constructor(settings) {
    this.state = new State({ theme: setting.choice("auto", ["auto", "light", "dark"]) }, () => applyTheme(this.state.get("theme")));
    applyTheme(this.state.get("theme"));
    this.kept = { living: {}, ended: {}, others: {} };
    this.settings = settings;
    document.getElementById("header").append(titleLine(phrase("Processes with a sampler"), this.state), element("p", "faint", this.settings.place));
    this.host = document.getElementById("processes");
    this.host.append(element("p", "faint", phrase("looking for processes\u2026")));
    this.otherHost = document.getElementById("others");
    this.endedLine = element("summary");
    this.endedHost = element("div");
    this.ended = element("details", "ended", null, [this.endedLine, this.endedHost]);
    this.ended.id = "ended";
    this.ended.hidden = true;
    this.host.after(this.ended);
    this.trouble = document.getElementById("trouble");
    this.feed = new Feed({ address: () => this.address(), answer: (data) => this.show(data), trouble: (text) => this.showTrouble(text) });
  }

  // What is looked for among the others, of which the answer has only some.
  address() {
    const find = this.kept.others.query?.trim();
    return find ? `/processes?${new URLSearchParams({ find })}` : "/processes";
  }

  show({ rows, more, others, others_all: all }) {
    if (!this.failed) this.trouble.hidden = true;
    const living = rows.filter((row) => !row.dead);
    const parts = [[this.host, (host) => this.fill(host, living)], [this.endedHost, (host) => this.fillEnded(host, rows.filter((row) => row.dead), more)],
      [this.otherHost, (host) => this.fillOthers(host, others, all)]];
    for (const [host, fill] of parts) {
      const fresh = element("div");
      fill(fresh);
      putInPlace(host, fresh);
    }
    document.documentElement.dataset.ready = "1";
    return LIST_EVERY_MS;
  }

  fill(host, rows) {
    if (!rows.length) {
      host.append(element("p", "", phrase("No process runs with the sampler.")), element("p", "", null, [
        element("code", "", "mem_profiler run -- PROG ARGS"), phrase(" starts one, "), element("code", "", "mem_profiler attach PID"), phrase(" enters one that runs.")]));
      return;
    }
    showTable(host, [
      { key: "command", label: english("Command"), kind: "text", main: true, text: (row) => row.command, cell: (row) => called(this.link(row), row) },
      numberOf("pid", english("Pid"), String), textOf("user", english("User")), numberOf("age_s", english("Age"), ageText), numberOf("rss_bytes", english("RSS"), bytesText),
      { ...numberOf("live_bytes", english("In use \u2248"), bytesText), text: inUseText },
      { ...textOf("state", english("State")), cell: (row) => this.stateOf(row) },
      { ...numberOf("rate_bytes", english("1 sample per"), bytesText), aside: true }, ...COUNTS,
    ], rows, { search: wordsOf, name: "processes", label: phrase("Processes with a sampler"), kept: this.kept.living, sort: "rss_bytes", rowKey: ({ pid, state }) => (LEFT.includes(state) ? `${pid} ${state}` : pid) });
  }

  // more: ended ones that have no row
  fillEnded(host, rows, more) {
    const count = rows.length + more;
    this.ended.hidden = !count;
    this.endedLine.textContent = plural("{number} ended process, not saved", "{number} ended processes, not saved", count);
    if (!count) return;
    showTable(host, [
      { ...textOf("command", english("Command")), main: true }, numberOf("pid", english("Pid"), String), textOf("user", english("User")),
      numberOf("live_bytes", english("In use \u2248"), bytesText), ...COUNTS,
      { key: "recover", label: english("To save it"), kind: "text", text: (row) => `mem_profiler recover ${row.pid}`, cell: (row) => element("code", "", `mem_profiler recover ${row.pid}`) },
    ], rows, { search: wordsOf, name: "ended", label: this.endedLine.textContent, kept: this.kept.ended, rowKey: ({ pid }) => pid });
    if (more) host.append(element("p", "faint", phrase("{number} more are not listed: mem_profiler ps --all", { number: countText(more) })));
  }

  stateOf(row) {
    if (LEFT.includes(row.state)) return element("span", "process-state", null, [stateText(row.state), " ", element("code", "", `mem_profiler recover ${row.pid}`)]);
    if (!row.attached) return element("span", "", stateText(row.state));
    const button = toggleControl(`detach-${row.pid}`, phrase("Detach"), phrase("Take out the sampler that this server put in"),
      () => this.order(row, "detach"));
    return element("span", "process-state", null, [stateText(row.state), " ", button]);
  }

  fillOthers(host, others, all) {
    if (!all) return;
    host.append(element("h2", "", phrase("Without a sampler")), element("p", "faint",
      phrase("The largest of {all}; a search looks at all of them. ", { all: countText(all) }) + phrase("Attach loads the sampler. It does not start a capture.")));
    showTable(host, [
      { ...textOf("command", english("Command")), main: true, cell: (row) => called(element("span", "", row.command), row) },
      numberOf("pid", english("Pid"), String), textOf("user", english("User")), numberOf("rss_bytes", english("RSS"), bytesText),
      { key: "attach", label: english("Attach"), kind: "text", text: (row) => `mem_profiler attach ${row.pid}`, cell: (row) => this.attachOf(row) },
    ], others, { ask: () => this.feed.again(), all, name: "others", label: phrase("Without a sampler"), kept: this.kept.others, sort: "rss_bytes", rowKey: ({ pid }) => pid });
  }

  attachOf(row) {
    if (!this.settings.control) return element("code", "", `mem_profiler attach ${row.pid}`);
    return toggleControl(`attach-${row.pid}`, phrase("Attach\u2026"), phrase("Put the sampler into this process"), () => askToAttach(row, () => this.order(row, "attach")));
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
    if (LEFT.includes(row.state)) return element("span", "", row.command || "?");
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

function numberOf(key, label, text) {
  return { key, label, kind: "number", value: (row) => row[key], text: (row) => row[key] === null ? "" : text(row[key]) };
}

function textOf(key, label) {
  return { key, label, kind: "text", text: (row) => row[key] };
}

// Of a capture that is over while its process lives on: its blocks that are left. New ones do not count, and freed ones go.
function inUseText({ state, live_bytes: size }) {
  if (size === null) return "";
  const isOver = !state.startsWith("capturing") && !LEFT.includes(state);
  return isOver ? phrase("{size} left of its capture", { size: bytesText(size) }) : bytesText(size);
}

const COUNTS = [numberOf("samples", english("Samples"), countText), numberOf("lost", english("Lost"), countText)].map((column) => ({ ...column, aside: true }));

// A program with its command line as it is now, which tells processes of one program apart.
function called(name, { command, line }) {
  const more = element("span", "command-line faint", line === command ? "" : line);
  more.title = line;
  return element("span", "called", null, [name, " ", more]);
}

// What a search looks at.
function wordsOf({ pid, command, user, state, line = "" }) {
  return `${pid} ${command} ${user} ${state} ${line}`;
}

function ageText(seconds) {
  const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([one]) => seconds >= 2 * one || one === 1);
  return `${Math.floor(seconds / length)} ${unit}`;
}

startPage(({ live }) => new ProcessesPage(live));
