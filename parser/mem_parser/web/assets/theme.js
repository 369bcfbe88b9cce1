// Dark and light: what the system says, until the reader chooses.

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark(choice) {
  return choice === "dark" || choice === "auto" && systemDark.matches;
}

function applyTheme(choice) {
  document.documentElement.dataset.theme = isDark(choice) ? "dark" : "light";
}

// The title of the page with the button that switches.
function titleLine(title, state) {
  const button = element("button", "move theme", "\u25d0");
  Object.assign(button, { type: "button", id: "theme-button", title: "Dark or light (t)" });
  button.setAttribute("aria-label", "Dark or light");
  button.addEventListener("click", () => state.set({ theme: isDark(state.get("theme")) ? "light" : "dark" }));
  return element("div", "title-line", null, [element("h1", "", title), button]);
}

// What the capture was, above everything: the answer, where it comes from, what was lost.
// The first line follows what is counted: see showHeadline.
function headerLines(facts) {
  const lines = [element("p", "headline")];
  if (facts.origin) lines.push(element("p", "origin", facts.origin));
  if (facts.warnings.length) {
    lines.push(element("div", "warnings", null, facts.warnings.map((text) => element("p", "", text))));
  }
  return lines;
}

function showHeadline(facts, count, unit) {
  document.querySelector(".headline").textContent = facts.headlines[`${count}.${unit}`] ?? Object.values(facts.headlines)[0];
}
