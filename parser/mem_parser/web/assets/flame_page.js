// The page of the flame graph alone. Runs to its end before the load event, the first drawing included.

function showHeader(host, facts) {
  const line = (text, className = "") => element("p", className, text);
  host.append(element("h1", "", facts.title), line(facts.headline, "headline"));
  if (facts.warnings.length) {
    host.append(element("div", "warnings", null, facts.warnings.map((text) => line(text))));
  }
  if (facts.facts.length) {
    const list = element("dl", "facts", null, facts.facts.map(([label, text]) =>
      element("div", "", null, [element("dt", "", label), element("dd", "", text)])));
    const more = element("details", "about", null, [element("summary", "", "About this profile"), list]);
    more.addEventListener("toggle", () => dispatchEvent(new Event("resize")));
    host.append(more);
  }
}

function startFlamePage() {
  const facts = readBlock("facts");
  showHeader(document.getElementById("header"), facts);
  const profile = new Profile(readBlock("tree"));
  let explorer = null;
  const state = new State(explorerSettings(profile, facts.start), () => explorer.refresh());
  explorer = new Explorer(document.getElementById("explorer"), profile, state, facts.exact);
  explorer.refresh();
  document.documentElement.dataset.ready = "1";
}

startFlamePage();
