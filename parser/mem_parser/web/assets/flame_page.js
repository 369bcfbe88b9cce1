// The page of the flame graph alone.

function showHeader(host, facts, state) {
  host.append(titleLine(facts.title, state), ...headerLines(facts));
  if (facts.facts.length) {
    const list = element("dl", "facts", null, facts.facts.map(([label, text]) =>
      element("div", "", null, [element("dt", "", label), element("dd", "", text)])));
    const more = element("details", "about", null, [element("summary", "", phrase("About this profile")), list]);
    more.addEventListener("toggle", () => dispatchEvent(new Event("resize")));
    host.append(more);
  }
}

function startFlamePage({ facts, tree, times, source }) {
  const profile = new Profile(tree, times);
  let explorer = null, line = null;
  const refresh = () => {
    if (narrowing.waits(state.values, refresh)) return;
    showHeadline(facts, profile, state.values);
    bar.refresh(state.values);
    explorer.refresh();
    line?.refresh();
    document.documentElement.dataset.ready = "1";
  };
  const state = new State(explorerSettings(profile, facts.start), refresh);
  const narrowing = new Narrowing(profile);
  const bar = new FilterBar(profile, state, narrowing, (changes) => explorer.change(changes));
  const header = document.getElementById("header");
  showHeader(header, facts, state);
  header.after(bar.host);
  if (profile.times) line = addTimeline(profile, state, bar.host, (changes) => explorer.change(changes), () => {});
  explorer = new Explorer(document.getElementById("explorer"), profile, state, facts, narrowing, source);
  refresh();
}

startPage(startFlamePage);
