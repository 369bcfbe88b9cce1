// Numbers as people read them. Nothing here touches the document.

const Z95 = 1.959963984540054;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytesText(value) {
  let size = Math.abs(value), unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) { size /= 1024; unit += 1; }
  const digits = unit === 0 || size >= 1000 ? 0 : size >= 100 ? 1 : 2;
  return `${value < 0 ? "\u2212" : ""}${size.toFixed(digits)} ${UNITS[unit]}`;
}

function countText(value) {
  const size = Math.abs(value);
  const sign = value < 0 ? "\u2212" : "";
  if (size < 1e7) return sign + Math.round(size).toLocaleString("en-US");
  if (size < 1e9) return `${sign}${(size / 1e6).toFixed(2)} M`;
  return `${sign}${(size / 1e9).toFixed(2)} G`;
}

function amountText(value, unit) {
  return unit === "objects" ? countText(value) : bytesText(value);
}

// "12.3 MiB ± 0.4 MiB"; without the error where it is not known or there is none.
function estimateText(value, variance, unit, exact) {
  const text = amountText(value, unit);
  if (!exact) return text;
  const margin = Z95 * Math.sqrt(Math.max(variance, 0));
  if (!(margin > 0)) return text;
  return `${text} \u00b1 ${amountText(margin, unit)}`;
}

function percentText(part, whole) {
  if (!(whole > 0)) return "0 %";
  const share = 100 * part / whole;
  if (share !== 0 && Math.abs(share) < 0.01) return "< 0.01 %";
  return `${share.toFixed(Math.abs(share) < 10 ? 2 : 1)} %`;
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
