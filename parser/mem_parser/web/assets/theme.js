// Dark and light: what the system says, until the reader chooses. Paper is light.

let onPaper = false, themeChosen = "auto";
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark(choice) {
  return !onPaper && (choice === "dark" || choice === "auto" && systemDark.matches);
}

function applyTheme(choice) {
  themeChosen = choice;
  document.documentElement.dataset.theme = isDark(choice) ? "dark" : "light";
}

// Calls it when the page goes to paper, and when it is back on the screen; `onPaper` says which.
function whenPrinted(act) {
  for (const name of ["beforeprint", "afterprint"]) addEventListener(name, act);
}

for (const [name, value] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(name, () => { onPaper = value; applyTheme(themeChosen); });
}
