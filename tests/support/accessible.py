"""What hides a page or a drawing from some of its readers, found by a script in the browser."""

from typing import Any

_FAULTS = """
const shows = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length;
const colour = (text) => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
  return { rgb: [r, g, b], opaque: !text.startsWith("color(") && a === 1 };
};
const luminance = (rgb) => rgb.map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const contrast = (...two) => {
  const [a, b] = two.map(luminance).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
};
const groundOf = (e) => {
  for (; e; e = e.parentElement) {
    const box = e.querySelector(":scope > .box, :scope.node > polygon");
    const found = colour(box ? getComputedStyle(box).fill : getComputedStyle(e).backgroundColor);
    if (found.opaque) return found.rgb;
  }
  return [255, 255, 255];
};
const named = (e) => e.textContent.trim() || e.ariaLabel || e.labels?.length
  || e.getAttribute("aria-labelledby") || e.title;
const cut = (e) => e.scrollHeight > e.clientHeight + 1
  && ["auto", "scroll"].includes(getComputedStyle(e).overflowY);
const touched = matchMedia("(pointer: coarse)").matches;
const faults = [];
const fault = (what, e) => faults.push(`${what}: ${e.outerHTML.slice(0, 120)}`);
for (const e of document.querySelectorAll("*")) {
  if (!shows(e) || e.matches("script, style, option, title, canvas, :disabled")) continue;
  const said = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
  const style = getComputedStyle(e);
  if (said && !e.matches(".tick")) {
    const ink = colour(e.matches("text") ? style.fill : style.color).rgb;
    if (contrast(ink, groundOf(e)) < 4.5) fault("faint", e);
  }
  if (e.matches("a[href], button, select, input, [tabindex='0'], [role=img]") && !named(e)) {
    fault("nameless", e);
  }
  if (touched && e.matches("button, select, input, [role=slider]")) {
    const { width, height } = e.getBoundingClientRect();
    if (width < 24 || height < 23.9) fault("small", e);
  }
  if (e.matches("table") && !e.ariaLabel && !e.getAttribute("aria-labelledby")) fault("table", e);
  if (e.matches("th:not([scope])")) fault("scope", e);
  if (cut(e) && !e.matches("[tabindex]") && !e.querySelector("a, button, input, [tabindex]")) {
    fault("cut", e);
  }
}
return faults;
"""


def faults_of(driver: Any) -> list[str]:
    """Return texts of too little contrast (4.5) with what is below them, controls without a name,
    or below 24 pixels where they are touched, tables without a name, heads without a scope, and
    texts that are cut off where no key scrolls them.
    """
    found: list[str] = driver.execute_script(_FAULTS)
    return found
