// The sentences of a page in the reader's language: a page that is not English has a dictionary in it, made of locale/*.po.

const WORDS = new Map(Object.entries(JSON.parse(document.getElementById("words")?.textContent ?? "{}")));

// text: in English, with names of `values` in braces.
function phrase(text, values = {}) {
  return (WORDS.get(text) ?? text).replace(/\{(\w+)\}/g, (found, name) => Object.hasOwn(values, name) ? values[name] : found);
}

// A text that `phrase` gets later.
function english(text) {
  return text;
}

// `{number}` is how many there are.
function plural(one, many, number, values = {}) {
  return phrase(number === 1 ? one : many, { number: countText(number), ...values });
}
