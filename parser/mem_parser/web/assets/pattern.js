// Regular expressions of the reader, or of a link: the browser's own, matched in a worker that is ended after a while, since
// some take for ever. What Python's `re` takes for something else is refused.

const MATCHING_MS = 3000, MOST_ANSWERS = 40;
const MATCHER = "onmessage = ({ data: [pattern, texts] }) => postMessage(texts.filter((text) => pattern.test(text)));";
// Escapes that mean the same in both. Of escapes, sets and repeats in a group of its own: what does not.
const ESCAPE = String.raw`\\(?:[bBdDsSwWfnrtv]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|[^a-zA-Z\d])`;
const SPELLING = new RegExp(String.raw`${ESCAPE}|(\\.|\[\^?\]|\{,\d)|\[(?:${ESCAPE}|[^\\\]])+\]`, "gsu");

// fold: capitals match small letters. Throws SyntaxError.
function patternOf(text, fold = false) {
  const [, folds, source] = /^(\(\?i\))?(.*)$/s.exec(text);
  const unlike = [...source.matchAll(SPELLING)].find(([, part]) => part);
  if (unlike) throw new SyntaxError(phrase("{part} is not known here", { part: unlike[1] }));
  return new RegExp(source, fold || folds ? "i" : "");
}

// Which of the texts a pattern matches, as { test }; or { problem }: why there is no answer.
function matchTexts(pattern, texts) {
  return new Promise((done) => {
    const address = URL.createObjectURL(new Blob([MATCHER], { type: "text/javascript" }));
    let worker = null;
    const end = (answer) => {
      clearTimeout(timer);
      worker?.terminate();
      URL.revokeObjectURL(address);
      done(answer);
    };
    const timer = setTimeout(() => end({ problem: phrase("takes more than {seconds} s on the names of this page", { seconds: MATCHING_MS / 1000 }) }), MATCHING_MS);
    const noWorker = () => end({ problem: phrase("cannot be used: this browser starts no worker for a page") });
    try {
      worker = new Worker(address);
    } catch {
      noWorker();
      return;
    }
    worker.onerror = noWorker;
    worker.onmessage = ({ data }) => {
      const found = new Set(data);
      end({ test: (text) => found.has(text) });
    };
    worker.postMessage([pattern, texts]);
  });
}

// What expressions match of one set of texts; `textsOf` makes these when they are first asked about.
class Answers {
  constructor(textsOf) {
    this.textsOf = textsOf;
    this.known = new Map();
  }

  // { test } or { problem }; null while there is no answer.
  of(text, fold = false) {
    return this.known.get(`${fold} ${text}`)?.answer ?? null;
  }

  // The same when it is there.
  ask(text, fold = false) {
    const key = `${fold} ${text}`;
    if (!this.known.has(key)) {
      if (this.known.size >= MOST_ANSWERS) this.known.delete(this.known.keys().next().value);
      const asked = { answer: null };
      asked.promise = this.answer(text, fold).then((answer) => { asked.answer = answer; return answer; });
      this.known.set(key, asked);
    }
    return this.known.get(key).promise;
  }

  async answer(text, fold) {
    try {
      return await matchTexts(patternOf(text, fold), this.texts ??= this.textsOf());
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return { problem: phrase("not a regular expression: {why}", { why: error.message.split(": ").at(-1) }) };
    }
  }
}
