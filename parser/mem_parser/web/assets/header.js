// What stands above everything on a page: what the capture was, and what is shown of it.

// The title of the page with the button that switches between dark and light; `t` does so wherever the reader is.
function titleLine(title, state) {
  const button = element("button", "move theme", "\u25d0");
  Object.assign(button, { type: "button", id: "theme-button", title: phrase("Dark or light (t)") });
  button.setAttribute("aria-label", phrase("Dark or light"));
  const turn = () => state.set({ theme: isDark(state.get("theme")) ? "light" : "dark" });
  button.addEventListener("click", turn);
  new Keys({ t: turn }, () => true);
  return element("div", "title-line", null, [element("h1", "", title), button]);
}

// The lines below the title of other data.
function renewHeader(host, facts) {
  host.querySelector("h1").textContent = facts.title;
  host.replaceChildren(host.querySelector(".title-line"), ...headerLines(facts));
}

// The answer, where it comes from, what was lost. The first line follows what is counted: see showHeadline.
function headerLines(facts) {
  const lines = [element("p", "headline")];
  if (facts.origin) lines.push(element("p", "origin", facts.origin));
  if (facts.warnings.length) {
    lines.push(element("div", "warnings", null, facts.warnings.map((text) => element("p", "", text))));
  }
  return lines;
}

// whole: the profile; values: what the part of the page that is shown takes of the state.
function showHeadline(facts, whole, values) {
  const part = whole.times?.of(whole, values);
  if (part?.window) {
    document.querySelector(".headline").textContent = whole.times.headline(part, values, facts);
    return;
  }
  const total = facts.headlines[`${countOf(values)}.${values.unit}`] ?? Object.values(facts.headlines)[0];
  document.querySelector(".headline").textContent = [...partText(facts, whole, values), total].join(" \u00b7 ");
}

// What a chosen thread or domain holds, with its share of the total: one text, or none where all is shown.
function partText(facts, whole, values) {
  const { thread, domain, unit } = values;
  const { apart } = facts.start;
  const words = [];
  if (thread >= 0) words.push(phrase("thread {name}", { name: whole.threads[thread] }));
  if (domain > (apart ? 0 : -1)) words.push(phrase("domain {name}", { name: whole.domains[domain] }));
  if (!words.length) return [];
  const amount = (chosen) => {
    const own = whole.measure({ ...values, count: countOf(values), ...chosen, diff: false });
    return [own.value, own.variance, own.samples].map((column) => column.reduce((a, b) => a + b, 0));
  };
  const part = amount({});
  const all = amount({ thread: -1, domain: apart ? domain : -1 });
  const share = thread >= 0 || !apart ? ` (${percentText(part[0], all[0])})` : "";
  const name = words.join(", ");
  return [phrase("{part}: {amount} {what}{share}", {
    part: `${name[0].toUpperCase()}${name.slice(1)}`, amount: estimateText(...part, unit, facts), what: measureWords(countOf(values), unit), share,
  })];
}
