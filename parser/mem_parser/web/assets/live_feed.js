// Data that the server has again and again: one question at a time, and none while nobody looks at the page.

const LONGEST_PAUSE_MS = 10000;

// The token comes in the fragment of the address that the server printed. This tab keeps it, for this origin with its port
// alone, and the address loses it.
const TOKEN = "mem_profiler.token";

function takeToken() {
  const words = new URLSearchParams(location.hash.slice(1));
  const token = words.get("token");
  if (token === null) return;
  sessionStorage.setItem(TOKEN, token);
  words.delete("token");
  history.replaceState(null, "", location.pathname + location.search + (words.size ? `#${words}` : ""));
}

function headersOf(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? more : { ...more, authorization: `Bearer ${token}` };
}

takeToken();
addEventListener("hashchange", () => location.hash.includes("token=") && (takeToken(), location.reload()));

// A file of the server, which a link without the token would not get.
async function download(address) {
  const response = await fetch(address, { cache: "no-store", headers: headersOf() });
  if (!response.ok) throw new Error(whyNot(await response.json().catch(() => ({})), response));
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? "profile";
  const link = element("a");
  Object.assign(link, { href: URL.createObjectURL(await response.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

class Feed {
  // address(): what to ask for. read(data): the data ready for answer(data), which may return milliseconds to wait.
  // trouble(text, status, data): null as status where there was no answer.
  constructor({ address, read = (data) => data, answer, trouble }) {
    Object.assign(this, { address, read, answer, trouble, paused: false, failures: 0, wake: () => {} });
    document.addEventListener("visibilitychange", () => this.wakeUp());
    this.run();
  }

  set isPaused(paused) {
    this.paused = paused;
    this.wakeUp();
  }

  // Asks anew, for what the address says now.
  again() {
    this.asking?.abort();
    this.wakeUp();
  }

  wakeUp() {
    if (this.paused || document.hidden) this.asking?.abort();
    this.wake();
  }

  rest(milliseconds) {
    return new Promise((done) => {
      this.wake = done;
      if (milliseconds !== Infinity) setTimeout(done, milliseconds);
    });
  }

  async run() {
    for (;;) {
      while (this.paused || document.hidden) await this.rest(Infinity);
      const pause = await this.ask();
      if (pause > 0) await this.rest(pause);
    }
  }

  async ask() {
    this.asking = new AbortController();
    try {
      const response = await fetch(this.address(), { cache: "no-store", headers: headersOf(), signal: this.asking.signal });
      if (response.status === 204) return 0;
      const data = await response.json();
      if (!response.ok) return this.failed(whyNot(data, response), response.status, data);
      this.failures = 0;
      const ready = await this.read(data);
      return this.asking.signal.aborted ? 0 : this.answer(ready) ?? 0;
    } catch (error) {
      if (this.asking.signal.aborted) return 0;
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      return this.failed(phrase("the server does not answer"), null);
    }
  }

  failed(text, status, data = {}) {
    this.failures += 1;
    this.trouble(text, status, data);
    return Math.min(1000 * 2 ** (this.failures - 1), LONGEST_PAUSE_MS);
  }
}

function whyNot({ error, hint }, { status }) {
  const why = error ?? phrase("the server answers {status}", { status });
  return hint ? `${why.replace(/\.$/, "")}: ${hint}` : why;
}

// Asks the reader whether to attach to a process { pid, command, user }; then(): the answer was yes.
function askToAttach(row, then) {
  const dialog = element("dialog", "question");
  const close = () => { dialog.close(); dialog.remove(); };
  const yes = toggleControl("attach-yes", phrase("Attach"), "", () => { close(); then(); });
  const no = toggleControl("attach-no", phrase("Cancel"), "", close);
  dialog.append(element("p", "", phrase("Put the sampler into {command} (pid {pid}, {user})?", row)),
    element("p", "faint", phrase("This server takes it out again when it ends.")),
    element("p", "question-answers", null, [yes, no]));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  no.focus();
}

// Asks the server to do something; returns its answer. Raises Error with what it says.
async function order(address, words = {}) {
  const headers = headersOf({ "content-type": "application/json" });
  const response = await fetch(address, { method: "POST", cache: "no-store", headers, body: JSON.stringify(words) });
  const data = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(whyNot(data, response));
  return data;
}
