// The list of processes with a sampler, as `mem_profiler ps` has it.

const LIST_EVERY_MS = 2000;

class ProcessesPage {
  constructor() {
    this.state = new State({ theme: setting.choice("auto", ["auto", "light", "dark"]) }, () => applyTheme(this.state.get("theme")));
    applyTheme(this.state.get("theme"));
    this.kept = {};
    document.getElementById("header").append(titleLine("Processes with a sampler", this.state), element("p", "faint", readBlock("live").place));
    this.host = document.getElementById("processes");
    this.trouble = document.getElementById("trouble");
    new Feed({ address: () => "/processes", answer: (data) => this.show(data), trouble: (text) => this.showTrouble(text) });
  }

  show({ rows, more }) {
    this.trouble.hidden = true;
    const key = JSON.stringify([rows, more]);
    if (key !== this.key) {
      this.key = key;
      this.fill(rows, more);
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
      { key: "state", label: "State", kind: "text", text: (row) => row.state },
      number("rate_bytes", "1 sample per", bytesText), number("samples", "Samples", countText),
      number("live_bytes", "Live \u2248", bytesText), number("lost", "Lost", countText),
    ], rows, { search: (row) => `${row.pid} ${row.command} ${row.user} ${row.state}`, name: "processes", kept: this.kept });
    if (more) this.host.append(element("p", "faint", `and ${countText(more)} more that ended: mem_profiler ps`));
    if (focused) document.getElementById(focused)?.focus();
  }

  link(row) {
    if (row.dead) return element("span", "", row.command);
    const link = element("a", "process", row.command || "?");
    link.href = `/p/${row.pid}`;
    return link;
  }

  showTrouble(text) {
    this.trouble.textContent = text;
    this.trouble.hidden = false;
  }
}

new ProcessesPage();
