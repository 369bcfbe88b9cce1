// Numbers as people read them. Nothing here touches the document.

// The same numbers as in mem_parser/estimate.py, where the formulas come from.
const FALSE_SHARE = 0.05, Z95 = 1.959963984540054, Z95_ONE_SIDED = 1.6448536269514722, CLOSED_FROM = 2, NONE_OF_IT = -Math.log(0.05);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytesText(value) {
  let size = Math.abs(value), unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) { size /= 1024; unit += 1; }
  const digits = unit === 0 || size >= 1000 ? 0 : size >= 100 ? 1 : 2;
  return `${value < 0 ? "\u2212" : ""}${grouped(size, digits)} ${UNITS[unit]}`;
}

// Without zeros at the end, for round numbers: "4 KiB".
function roundBytesText(value) {
  return bytesText(value).replace(/(\.\d*?)0+ /, (_, digits) => `${digits === "." ? "" : digits} `);
}

function countText(value) {
  const size = Math.abs(value);
  const sign = value < 0 ? "\u2212" : "";
  return sign + grouped(size, 0);
}

function grouped(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function amountText(value, unit) {
  return unit === "objects" ? countText(value) : bytesText(value);
}

// The ends of the 95 % interval of a sum; infinite where there is none. `unseen`: { weight, bounded }.
function interval95(value, variance, samples, { weight, bounded }) {
  const v = Math.max(variance, 0), closed = isClosed(v, weight, bounded);
  let lower = gammaEnd(value, v, closed ? -Z95 : -Z95_ONE_SIDED);
  if (!bounded) lower = Math.max(lower, Math.min(samples, value));
  if (!closed) return [lower, Infinity];
  const missed = value > 0 ? Math.min(v / value * samples, value) : 0;
  const more = value > 0 ? weight * (1 - missed / value / 2) : weight;
  return [lower, Math.max(
    gammaEnd(value + weight / 2, v + weight * weight / 2, Z95),
    value - missed + gammaEnd(missed + more, v + more * weight, Z95),
    value + NONE_OF_IT * weight,
  )];
}

// The same of a difference.
function changeInterval95(delta, variance, { weight, bounded }) {
  if (!isClosed(variance, weight, bounded)) return [-Infinity, Infinity];
  const half = Math.max(weight / 2 + Z95 * Math.sqrt(variance + weight * weight / 2), NONE_OF_IT * weight);
  return [delta - half, delta + half];
}

// Which of many changes, { delta, variance, weight }, are more than chance: mem_parser/significance.py, p_of_change and beyond_chance.
function beyondChance(changes) {
  const chance = changes.map(({ delta, variance, weight }) => {
    const excess = Math.abs(delta) - weight / 2, spread = variance + weight * weight / 2;
    return excess <= 0 ? 1 : spread <= 0 ? 0 : complementaryError(excess / Math.sqrt(2 * spread));
  });
  const ordered = chance.slice().sort((a, b) => a - b);
  const last = ordered.findLastIndex((p, k) => p * ordered.length <= FALSE_SHARE * (k + 1));
  return chance.map((p) => last >= 0 && p <= ordered[last]);
}

// erfc of numbers above 0, within 2 in 10 million of itself (Press et al., Numerical Recipes, 6.2).
function complementaryError(x) {
  const t = 1 / (1 + x / 2);
  const terms = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  return t * Math.exp(-x * x + terms.reduceRight((sum, term) => sum * t + term, 0));
}

function isClosed(variance, weight, bounded) {
  return bounded || variance >= (CLOSED_FROM * weight) ** 2;
}

function gammaEnd(mean, variance, z) {
  const root = mean > 0 ? Math.sqrt(variance) / (3 * mean) : 0;
  return mean * Math.max(1 - root * (root - z), 0) ** 3;
}

// An amount with the ends of its 95 % interval, as format_margin of mem_parser/units.py writes them:
// "12.30 MiB ± 0.40 MiB", "(58–136 KiB)" where one end is much further, "(≥ 940)" without an upper end;
// the value alone for an error below 1 % of it, and where the ends are not known.
function withEnds(text, value, lower, upper, unit, signed = false) {
  if (lower === null || lower === undefined) return text;
  if (upper === null || upper === undefined || upper === Infinity) {
    return signed || !Number.isFinite(lower) ? `${text} \u00b1 ?` : `${text} (\u2265 ${amountText(lower, unit)})`;
  }
  const below = value - lower, above = upper - value;
  const margin = Math.max(below, above);
  if (!(margin > 0.5) || margin < 0.01 * Math.abs(value) || (!signed && Math.round(value) === 0)) return text;
  if (margin <= 1.5 * Math.min(below, above)) return `${text} \u00b1 ${inUnitOf(Math.max(Math.abs(value), margin), margin, unit, 2)}`;
  const digits = upper > 2 * lower ? 2 : 3;
  const least = inUnitOf(upper, Math.max(lower, 0), unit, digits).split(" ")[0];
  return `${text} (${least}\u2013${inUnitOf(upper, upper, unit, digits)})`;
}

// A size in the unit that `value` is written in, with so many significant digits.
function inUnitOf(value, size, unit, digits) {
  if (unit === "objects") return countText(size);
  const name = bytesText(value).split(" ").at(-1);
  const scaled = size / 1024 ** UNITS.indexOf(name);
  const decimals = Math.max(digits - 1 - Math.floor(Math.log10(scaled)), 0);
  return `${scaled ? grouped(scaled, Math.min(decimals, 12)) : "0"} ${name}`;
}

// A sum with its error, as the page's trees have it.
function estimateText(value, variance, samples, unit, { exact, unseen }) {
  const text = amountText(value, unit);
  if (!exact || !(samples > 0)) return text;
  return withEnds(text, value, ...interval95(value, variance, samples, unseen[unit]), unit);
}

function percentText(part, whole) {
  return `${(whole > 0 ? 100 * part / whole : 0).toFixed(1)} %`;
}

function signedText(value, unit) {
  return (value > 0 ? "+" : "") + amountText(value, unit);
}

function secondsText(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// A change with its error, from a row of JSON: `key` is the name of the number.
function changeText95(row, key, unit) {
  return withEnds(signedText(row[key] ?? 0, unit), row[key], row[`${key}_lower95`], row[`${key}_upper95`], unit, true);
}

// The last part of a path, either kind of slash.
function baseName(path) {
  return path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
}

// An element with a class, text and children; text only ever becomes a text node.
function element(tag, className = "", text = null, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}
