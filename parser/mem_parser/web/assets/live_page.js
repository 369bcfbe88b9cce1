// The page of one process: the report, with new data every few moments, and a line of controls.
// Block `live`: { pid, control: whether captures may be begun and ended, rates: bytes a sample to choose from }.

const SINCE_WORDS = [["", phrase("nothing")], ["10s", phrase("10 s ago")], ["60s", phrase("1 min ago")], ["600s", phrase("10 min ago")]];

class LivePage {
  constructor(settings) {
    this.settings = settings;
    this.root = `/p/${this.settings.pid}`;
    this.report = null;
    this.latest = null;
    this.heading = element("h1", "", `pid ${this.settings.pid}`);
    document.getElementById("header").append(this.heading);
    this.since = "";
    this.seq = 0;
    this.makeLine(document.getElementById("live-line"));
    this.feed = new Feed({
      address: () => `${this.root}/live?${new URLSearchParams({ after: this.seq, since: this.since })}`,
      read: (answer) => this.readAnswer(answer),
      answer: (data) => this.take(data), trouble: (...why) => this.showTrouble(...why),
    });
  }

  makeLine(host) {
    document.querySelector(".where a").textContent = phrase("Processes");
    host.setAttribute("aria-label", phrase("Live"));
    this.stateText = element("span", "live-state", phrase("asking"));
    this.stateText.dataset.state = "idle";
    this.numbers = element("span", "live-line");
    this.picture = element("span", "live-picture");
    this.controls = element("span", "live-controls");
    // What there is to do with a picture; shows as soon as there is one.
    this.ofPicture = element("span", "live-buttons");
    this.ofPicture.hidden = true;
    this.attach = element("span");
    this.controls.append(this.ofPicture, this.attach);
    this.how = element("p", "live-how");
    this.how.setAttribute("role", "status");
    this.how.hidden = true;
    this.verdicts = element("div", "live-verdicts");
    host.append(element("div", "live-line", null, [this.stateText, this.numbers, this.picture, this.controls]), this.how);
    this.pause = toggleControl("live-pause", phrase("Pause"), phrase("Keep this picture; the process goes on"), () => this.setPaused(!this.feed.paused));
    this.pause.setAttribute("aria-pressed", "false");
    this.markButton = toggleControl("live-mark", phrase("Mark"), phrase("Remember this moment, and show what changes from now on"), () => this.mark());
    this.sinceHost = element("span");
    this.ofPicture.append(this.pause, this.markButton, this.sinceHost, toggleControl("live-save", phrase("Save .heap"), phrase("A file of what the capture has so far"),
      () => download(`${this.root}/profile.heap`).catch((error) => this.say([error.message]))));
    if (this.settings.control) this.addControl();
    this.showSince([]);
    new Keys({ " ": () => this.setPaused(!this.feed.paused) }, () => true);
  }

  addControl() {
    this.start = toggleControl("live-start", phrase("Start a capture"), phrase("Sample what the process allocates from now on"),
      () => this.order("start", { rate: this.rate.querySelector("select").value }));
    this.rate = choiceControl(phrase("1 sample /"), this.settings.rates, this.settings.rates[0][0], () => {});
    this.stop = toggleControl("live-stop", phrase("Stop the capture"), phrase("What it has stays until the next one begins"), () => this.order("stop"));
    this.controls.append(this.rate, this.start, this.stop);
    this.showControl({});
  }

  async order(name, words = {}) {
    try {
      const answer = await order(`${this.root}/${name}`, words);
      this.seq = 0;
      this.feed.again();
      return answer;
    } catch (error) {
      this.say([error.message]);
      return null;
    }
  }

  async mark() {
    const made = await this.order("mark");
    if (made) this.choose(made.mark);
  }

  choose(since) {
    this.since = since;
    this.seq = 0;
    if (this.feed.paused) this.setPaused(false);
    this.feed.again();
  }

  setPaused(paused) {
    this.feed.isPaused = paused;
    this.pause.setAttribute("aria-pressed", String(paused));
    if (this.latest) this.showState(this.latest);
  }

  // marks: [{ id, label }]. Left alone while it is as it was: it may be open.
  showSince(marks) {
    const choices = [...SINCE_WORDS, ...marks.map(({ id, label }) => [id, phrase("mark of {time}", { time: label })])];
    const key = JSON.stringify([choices, this.since]);
    if (key === this.sinceKey) return;
    this.sinceKey = key;
    const control = choiceControl(phrase("Compare with"), choices, this.since, (since) => this.choose(since));
    control.querySelector("select").id = "live-since";
    this.sinceHost.replaceChildren(control);
  }

  // What the reader marks with the mouse would be gone.
  get isMarking() {
    const selection = getSelection();
    return selection && !selection.isCollapsed && document.getElementById("panels").contains(selection.anchorNode);
  }

  // What the reader filters and searches by is matched before the new data shows.
  async readAnswer(answer) {
    if (!answer.data) return answer;
    const data = await unpackBlocks(answer.data);
    data.profile = new Profile(data.tree);
    if (this.report) await askAll(data.profile, this.report.state.values);
    return { ...answer, data };
  }

  take(answer) {
    if (this.report && answer.data && this.isMarking) return 300;
    this.seq = answer.seq;
    this.latest = answer;
    if (answer.data) this.showData(answer.data);
    this.since = answer.base ? answer.base.id : answer.waits_for ?? "";
    this.showSince(answer.marks);
    this.showState(answer);
    document.documentElement.dataset.frame = String(answer.seq);
    return 0;
  }

  showData(data) {
    if (this.report) this.report.renew(data);
    else {
      document.getElementById("header").replaceChildren();
      this.report = new ReportPage(data, { live: true });
      this.report.refresh();
    }
    document.querySelector("#header .title-line").after(this.verdicts);
    putInPlace(this.verdicts, element("div", "", null, openingLines(data.opening)));
    document.title = phrase("{title} \u2013 live", { title: data.facts.title });
  }

  showState(answer) {
    const words = { captured: phrase("live"), idle: phrase("no capture runs"), ended: phrase("ended") };
    const paused = this.feed.paused && answer.state === "captured";
    this.stateText.textContent = paused ? phrase("paused") : words[answer.state] ?? answer.state;
    this.stateText.dataset.state = paused ? "idle" : answer.state;
    const lines = [];
    if (answer.why) lines.push(answer.why);
    if (answer.waits_for) lines.push(phrase("not watched for that long yet: the comparison with {time} begins when it is", { time: answer.waits_for_label }));
    if (answer.base_gone) lines.push(phrase("that moment is of another capture, or was forgotten: mark anew"));
    this.say(lines, answer.how);
    this.showControl(answer);
    if (answer.data) this.showNumbers(answer);
    this.ofPicture.hidden = !this.report;
    this.attach.replaceChildren();
    if (!this.report) this.heading.textContent = answer.name;
  }

  showControl({ state, own }) {
    if (!this.settings.control) return;
    this.start.hidden = this.rate.hidden = state !== "idle";
    this.stop.hidden = state !== "captured" || !own;
  }

  showNumbers({ t_s: seconds, number, data, peak_bytes: peak }) {
    const { series } = data;
    const heap = this.report.wholeTables.totals["inuse.space"], resident = series.filter((row) => row[3] !== null);
    const fact = (label, text) => element("span", "live-number", null, [element("span", "fact-label", `${label} `), text]);
    const facts = [fact(phrase("capture"), `${number}, ${secondsText(seconds)}`)];
    facts.push(fact(phrase("in use"), pairText(heap, "space")));
    if (peak !== null) facts.push(fact(phrase("peak"), bytesText(Math.max(peak, heap[0]))));
    if (resident.length) facts.push(fact("RSS", bytesText(resident.at(-1)[3])));
    this.numbers.replaceChildren(...facts);
    const lines = [{ className: "heap", points: series.map((row) => [row[0], row[1]]) }];
    if (resident.length > 1) lines.push({ className: "rss", points: resident.map((row) => [row[0], row[3]]) });
    this.picture.replaceChildren(...series.length > 1 ? [sparkline(lines, phrase("Heap in use and resident memory over time"))] : []);
  }

  // A process that has ended is gone: that is known, and what it had stays. Without a sampler there is nothing to do but to
  // load it, where that is allowed.
  showTrouble(text, status, { attach: row }) {
    if (status === 404 && this.latest?.state === "ended") return;
    this.stateText.dataset.state = "trouble";
    this.showControl({});
    if (row) {
      this.stateText.textContent = phrase("no sampler");
      this.heading.textContent = `${row.command} (pid ${row.pid})`;
      this.say([phrase("the sampler is not loaded in this process")], this.settings.control ? "" : `mem_profiler start ${row.pid}`);
      if (this.settings.control && !this.attach.firstChild) {
        this.attach.append(toggleControl("live-attach", phrase("Attach\u2026"), phrase("Put the sampler into this process"), () => askToAttach(row, () => this.order("attach"))));
      }
      return;
    }
    this.stateText.textContent = status === null ? phrase("no answer") : phrase("not readable");
    this.say([text]);
  }

  // how: a command to paste
  say(lines, how = "") {
    const parts = lines.filter(Boolean).flatMap((line, k) => [...k ? ["; "] : [], line]);
    if (how) parts.push(...parts.length ? [": "] : [], element("code", "", how));
    this.how.replaceChildren(...parts);
    this.how.hidden = !parts.length;
  }
}

applyTheme("auto");
startPage(({ live }) => new LivePage(live));
