// Dark and light: what the system says, until the reader chooses.

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark(choice) {
  return choice === "dark" || choice === "auto" && systemDark.matches;
}

function applyTheme(choice) {
  document.documentElement.dataset.theme = isDark(choice) ? "dark" : "light";
}
