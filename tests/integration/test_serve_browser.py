"""The live page in headless Chromium, on a redis-server under load."""

import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accessible import faults_of
from browser import NEEDS_BROWSER, assert_quiet, browser, element, text_of, until
from controller_tools import TIMEOUT_S, Stepper, build_stepper
from mem_cli import demo
from mem_parser.readers import read_profile
from mem_profiler import attach as attaching
from sampler_run import SAMPLER
from serving import Server

ActionChains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not all(map(shutil.which, demo.PROGRAMS)), reason="redis is not installed"),
]
# Keys of a fixed number: the heap comes to rest, and the counts go on.
LOAD = "-q -n 100000000 -r 2000 -d 200 -c 2 -t set"


class Shop:
    """A redis-server under load, a server that shows it, and a browser."""

    def __init__(self, driver: Any, server: Server, pid: int, port: int, segments: Path) -> None:
        self.driver, self.server, self.pid, self.port = driver, server, pid, port
        self.segments = str(segments)

    def until(self, condition: Any) -> Any:
        return until(self.driver, lambda _: condition(), TIMEOUT_S * 2)

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.server.url}/p/{self.pid}{fragment}")
        self.until(lambda: self.data("ready") == "1")

    def data(self, name: str) -> str | None:
        script = "return document.documentElement.dataset[arguments[0]] ?? null"
        found: str | None = self.driver.execute_script(script, name)
        return found

    def next_frame(self) -> None:
        frame = self.data("frame")
        self.until(lambda: self.data("frame") != frame)

    def click(self, selector: str) -> None:
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def samples(self) -> str:
        """The headline, whose number of samples changes all the time under load."""
        return text_of(self.driver, ".headline")

    def plant(self) -> None:
        """Let redis keep sorted sets, which the load does not make."""
        words = ["zadd", "planted", "1", "member:__rand_int__"]
        subprocess.run(
            ["redis-benchmark", "-p", str(self.port), "-q", "-n", "20000", "-r", "1000000", *words],
            stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S * 2,
        )  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    work = tmp_path_factory.mktemp("serve")
    segments = Path("/dev/shm") / f"mem_profiler-test-{work.parent.name}-{work.name}"
    segments.mkdir(mode=0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEM_PROFILER_DIR", str(segments))
        port, log = demo.free_port(), work / "redis.log"
        arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--dir", str(work), "--logfile", str(log)]
        environment = {
            "LD_PRELOAD": str(SAMPLER), "MEM_PROFILER_DIR": str(segments),
            "MEM_PROFILER_START": "512",
        }  # fmt: skip
        with (
            demo.child(arguments, environment) as redis,
            Server("--control") as server,
            browser(1280, 900) as driver,
        ):
            demo.wait_for_server(redis, port, log)
            load = ["redis-benchmark", "-p", str(port), *LOAD.split()]
            with demo.child(load, {}):
                driver.get(f"{server.url}/#token={server.token}")
                yield Shop(driver, server, redis.pid, port, segments)
    shutil.rmtree(segments, ignore_errors=True)


@pytest.mark.parametrize("before", ["#", "?"])
def test_the_first_visit_takes_the_token_out_of_the_address(shop: Shop, before: str) -> None:
    shop.driver.get("about:blank")
    shop.driver.get(f"{shop.server.url}/{before}token={shop.server.token}")
    shop.until(lambda: shop.data("ready") == "1")
    assert shop.driver.current_url == f"{shop.server.url}/"
    assert shop.driver.get_cookies() == []
    link = element(shop.driver, f"a.process[href='/p/{shop.pid}']")
    assert link.text == "redis-server"
    assert_quiet(shop.driver)


class Thief:
    """A web server of somebody else on another port of the same address; it keeps all it gets."""

    def __init__(self) -> None:
        got = self.got = list[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                got.append(f"{self.requestline} {self.headers}")
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>thief</title>")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_server_on_another_port_gets_nothing_of_the_session(shop: Shop) -> None:
    shop.open()
    thief = Thief()
    try:
        # A cookie would reach it: this one does, so what it keeps shows a theft.
        shop.driver.add_cookie({"name": "planted", "value": "seen"})
        shop.driver.get(thief.url)
        assert shop.driver.title == "thief"
        assert shop.driver.execute_script("return sessionStorage.length") == 0
        text = "".join(thief.got)
        assert "planted=seen" in text
        assert shop.server.token is not None
        assert shop.server.token not in text
        shop.driver.delete_all_cookies()
    finally:
        thief.server.shutdown()
        thief.server.server_close()
    shop.open()  # the tab still has it
    assert_quiet(shop.driver)


def test_a_tab_without_the_token_says_what_to_open(shop: Shop) -> None:
    shop.driver.switch_to.new_window("tab")
    try:
        shop.driver.get(f"{shop.server.url}/p/{shop.pid}")
        assert shop.driver.title == f"pid {shop.pid} \N{EN DASH} live"
        shop.until(lambda: "open the address" in text_of(shop.driver, ".live-how"))
    finally:
        shop.driver.close()
        shop.driver.switch_to.window(shop.driver.window_handles[0])
        shop.driver.get_log("browser")  # has the refusals


def test_the_page_of_a_process_without_the_sampler_says_how_it_gets_it(shop: Shop) -> None:
    shown = """return [...document.querySelectorAll(".live button, .live select")]
                 .filter((e) => e.checkVisibility()).map((e) => e.id || e.textContent)"""
    with subprocess.Popen(["sleep", "300"]) as plain:
        shop.driver.get(f"{shop.server.url}/p/{plain.pid}")
        assert text_of(shop.driver, "h1") in {f"pid {plain.pid}", f"sleep (pid {plain.pid})"}
        shop.until(lambda: "is not loaded" in text_of(shop.driver, ".live-how"))
        assert text_of(shop.driver, "h1") == f"sleep (pid {plain.pid})"
        assert shop.driver.execute_script(shown) == ["live-attach"]
        shop.click("#live-attach")
        shop.click("#attach-yes")
        shop.until(lambda: "live-start" in shop.driver.execute_script(shown))
        assert "live-mark" not in shop.driver.execute_script(shown)
        plain.kill()
    shop.driver.get_log("browser")  # has the refusals


def test_a_saved_file_is_that_of_the_server(shop: Shop, tmp_path: Path) -> None:
    shop.open()
    shop.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    shop.click("#live-save")
    shop.until(lambda: list(tmp_path.glob("redis-server.*.heap")))
    [file] = tmp_path.glob("redis-server.*.heap")
    assert read_profile(str(file)).capture.pid == shop.pid


def test_numbers_move_and_pause_holds_them(shop: Shop) -> None:
    shop.open("#tab=table")
    first = shop.samples()
    shop.next_frame()
    shop.until(lambda: shop.samples() != first)

    shop.click("#live-pause")
    assert text_of(
        shop.driver, ".live-state"
    ) == "●\N{NO-BREAK SPACE}paused" or "paused" in text_of(shop.driver, ".live-state")
    held, frame = shop.samples(), shop.data("frame")
    asked = shop.driver.execute_script("return performance.getEntriesByType('resource').length")
    # The server has news meanwhile; the page does not ask for it.
    for _ in range(2):
        shop.server.ask(f"/p/{shop.pid}/profile.heap")
    assert (shop.samples(), shop.data("frame")) == (held, frame)
    again = shop.driver.execute_script("return performance.getEntriesByType('resource').length")
    assert again == asked

    shop.click("#live-pause")
    shop.next_frame()
    shop.until(lambda: shop.samples() != held)
    assert_quiet(shop.driver)


def test_a_mark_shows_a_planted_growth(shop: Shop) -> None:
    shop.open()
    assert not element(shop.driver, "#tab-diff").is_displayed()
    shop.click("#live-mark")
    shop.until(lambda: element(shop.driver, "#tab-diff").is_displayed())
    shop.plant()
    shop.click("#tab-diff")

    def grown() -> list[str]:
        rows: list[str] = shop.driver.execute_script(
            """return [...document.querySelectorAll("#diff-rows tbody tr")]
                 .map((row) => row.innerText)
                 .filter((text) => /^(new|grown)/.test(text) && /z(sl|set|add)/i.test(text));"""
        )
        return rows

    assert shop.until(grown)
    chosen = shop.driver.execute_script(
        "return document.querySelector('#live-since').selectedOptions[0].text"
    )
    assert chosen.startswith("mark of ")
    assert_quiet(shop.driver)


def test_what_the_reader_typed_opened_and_zoomed_stays_when_new_data_comes(shop: Shop) -> None:
    shop.open("#tab=table")
    # Keys go to what has the focus: new data replaces the box at any time.
    typed = "const box = document.activeElement; return [box.id, box.value];"
    shop.driver.execute_script("document.querySelector('#functions-search').focus()")
    ActionChains(shop.driver).send_keys("create").perform()
    shop.next_frame()
    assert shop.driver.execute_script(typed) == ["functions-search", "create"]
    ActionChains(shop.driver).send_keys("string").perform()
    assert shop.driver.execute_script(typed) == ["functions-search", "createstring"]

    shop.click("#tab-tree")
    shop.click("#tree-heaviest")
    names = """return [...document.querySelectorAll(".tree-name")].map((e) => e.textContent)"""
    opened = shop.driver.execute_script(names)
    shop.next_frame()
    after = shop.driver.execute_script(names)
    assert len(opened) > 8
    assert opened[:8] == after[:8]
    assert len(after) >= len(opened)

    shop.open("#tab=flame")
    canvas = element(shop.driver, ".flame-canvas")
    shop.driver.execute_script(
        """const box = arguments[0].getBoundingClientRect();
           arguments[0].dispatchEvent(new MouseEvent("click", {clientX: box.left + 60,
             clientY: box.top + 19 * 6 + 8, bubbles: true}));""",
        canvas,
    )
    title = text_of(shop.driver, ".details-title")
    assert title != "everything"
    shop.next_frame()
    assert text_of(shop.driver, ".details-title") == title
    assert element(shop.driver, "#move-reset").is_enabled()
    assert "zoom" not in shop.driver.execute_script("return location.hash")
    assert_quiet(shop.driver)


PLACE = """
    const frame = document.querySelector("#panel-table .table-frame");
    const sorted = document.querySelector("#functions-rows th[aria-sort=descending]");
    return { focused: window.focusedBefore === document.activeElement, page: scrollY,
             table: frame.scrollTop, sorted: sorted.dataset.key,
             left: window.linesBefore.filter((line) => line.isConnected).length };
"""


def test_new_data_comes_into_the_rows_that_are_there(shop: Shop) -> None:
    """Nothing moves below the reader: no scroll position, no focus, no line."""
    shop.driver.set_window_size(1280, 420)
    try:
        shop.open("#tab=table")
        lines: int = shop.driver.execute_script(
            """document.querySelector("#functions-rows th[data-key=total] button").click();
               window.linesBefore = [...document.querySelectorAll("#functions-rows tbody tr")];
               window.numbersBefore = window.linesBefore[0].textContent;
               window.focusedBefore = document.querySelector("#functions-rows td button.link");
               window.focusedBefore.focus({ preventScroll: true });
               scrollTo(0, 120);
               document.querySelector("#panel-table .table-frame").scrollTop = 70;
               return window.linesBefore.length;"""
        )
        before = shop.driver.execute_script(PLACE)
        assert (before["page"], before["table"]) == (120, 70)
        renewed = "return document.querySelector('#functions-rows tbody').rows[0].textContent"
        first = shop.driver.execute_script(renewed)
        shop.until(lambda: shop.driver.execute_script(renewed) != first)
        shop.next_frame()
        after = shop.driver.execute_script(PLACE)
        assert after["left"] > lines / 2  # a function may have freed all that it held
        assert {**after, "left": before["left"]} == before
    finally:
        shop.driver.set_window_size(1280, 900)

    shop.open("#tab=leaks")
    shop.driver.execute_script(
        """window.opened = document.querySelector("#leaks-rows details.stack");
           window.opened.open = true;"""
    )
    shop.next_frame()
    shop.next_frame()
    opened = "return document.querySelectorAll('#leaks-rows details[open]').length"
    assert shop.driver.execute_script(opened) == 1
    assert_quiet(shop.driver)


def test_a_zoomed_call_graph_stays_zoomed(shop: Shop) -> None:
    shop.open("#tab=graph")
    shop.until(lambda: element(shop.driver, ".call-graph-svg").get_attribute("data-scale"))
    shop.click("#graph-in")
    shop.driver.execute_script("document.querySelector('#graph-in').focus()")
    view = "return document.querySelector('.call-graph-svg > g').getAttribute('transform')"
    before = shop.driver.execute_script(view)
    shop.next_frame()
    shop.next_frame()
    assert shop.driver.execute_script(view) == before
    assert shop.driver.execute_script("return document.activeElement.id") == "graph-in"


def test_the_page_begins_with_verdicts_on_every_tab(shop: Shop) -> None:
    for tab in ("summary", "flame"):
        shop.open(f"#tab={tab}")
        lines = text_of(shop.driver, "#header .title-line + .live-verdicts")
        assert "in use " in lines
        assert len(shop.driver.find_elements("css selector", "ul.opening")) == 1


def test_the_list_has_the_living_first_and_folds_the_ended(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = build_stepper(tmp_path_factory.mktemp("stepper"))
    captured = {"MEM_PROFILER_START": "1", "MEM_PROFILER_DIR": shop.segments}
    with Stepper(program, **captured) as ended:
        ended.tell("a 10 1000")
    with Stepper(program, **captured) as one:
        one.tell("a 10 1000")
        shop.driver.get(f"{shop.server.url}/")

        def pids(table: str) -> list[str]:
            cells = f"return [...document.querySelectorAll('#{table}-rows td[data-label=Pid]')]"
            found: list[str] = shop.driver.execute_script(f"{cells}.map((e) => e.textContent)")
            return found

        shop.until(lambda: str(one.pid) in pids("processes") and str(ended.pid) in pids("ended"))
        living = pids("processes")
        assert str(ended.pid) not in living
        assert living.index(str(shop.pid)) < living.index(str(one.pid))  # the largest first
        line = text_of(shop.driver, f"tr:has([href='/p/{shop.pid}']) .command-line")
        assert line == f"redis-server 127.0.0.1:{shop.port}"  # its title of now
        assert re.fullmatch(
            r"\d+ ended process(es)?, not saved", text_of(shop.driver, "#ended summary")
        )
        assert not shop.driver.execute_script("return document.querySelector('#ended').open")

        # The age of a line changes, the line does not.
        shop.click("#ended summary")
        age = f"""const line = document.querySelector("a[href='/p/{one.pid}']").closest("tr");
                  window.line ??= line;
                  return [line === window.line, line.querySelector("[data-label=Age]").textContent,
                          line.querySelector("[data-label=RSS]").textContent];"""
        _, first, rss = shop.driver.execute_script(age)
        assert rss.endswith("iB")
        shop.until(lambda: shop.driver.execute_script(age)[1] != first)
        assert faults_of(shop.driver) == []
        assert shop.driver.execute_script(age)[0]
        assert shop.driver.execute_script("return document.querySelector('#ended').open")
    assert_quiet(shop.driver)


def test_the_list_says_that_it_looks_for_processes_until_it_has_them(shop: Shop) -> None:
    block = "Network.setBlockedURLs"
    shop.driver.execute_cdp_cmd("Network.enable", {})
    shop.driver.execute_cdp_cmd(block, {"urls": ["*/processes"]})
    try:
        shop.driver.get(f"{shop.server.url}/")
        shop.until(lambda: element(shop.driver, "#trouble").is_displayed())
        assert text_of(shop.driver, "#processes") == "looking for processes…"
        assert not element(shop.driver, "#ended").is_displayed()
    finally:
        shop.driver.execute_cdp_cmd(block, {"urls": []})
    shop.until(lambda: shop.data("ready") == "1")
    assert "looking" not in text_of(shop.driver, "#processes")


def test_nothing_leaves_the_origin_and_nothing_else_may_run(shop: Shop) -> None:
    shop.open()
    shop.next_frame()
    asked: list[str] = shop.driver.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert asked
    assert [name for name in asked if not name.startswith(f"{shop.server.url}/p/")] == []
    ran = shop.driver.execute_async_script(
        """const done = arguments[0];
           addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
           const script = document.createElement("script");
           script.textContent = "document.title = 'ran'";
           document.body.append(script);"""
    )
    assert ran.startswith("script-src")
    elsewhere = shop.driver.execute_async_script(
        """const done = arguments[0];
           fetch("http://127.0.0.1:9/").then(() => done("asked"), () => done("refused"));"""
    )
    assert elsewhere == "refused"
    shop.driver.get_log("browser")


def test_a_phone_shows_it_without_scrolling_sideways(shop: Shop) -> None:
    for width in (1280, 500):
        shop.driver.set_window_size(width, 900)
        for tab in ("summary", "table", "flame", "leaks"):
            shop.open(f"#tab={tab}")
            wide = shop.driver.execute_script(
                "return document.documentElement.scrollWidth - innerWidth"
            )
            assert wide <= 0, (width, tab)
    shop.driver.set_window_size(1280, 900)
    assert_quiet(shop.driver)


def test_a_process_is_attached_to_from_the_list_after_a_question(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = build_stepper(tmp_path_factory.mktemp("stepper"))
    with Stepper(program, LD_PRELOAD="") as one:
        one.tell("a 20000 4096")  # one of the largest
        shop.driver.get(f"{shop.server.url}/")
        button = f"#attach-{one.pid}"
        find = "return document.querySelector(arguments[0])"
        shop.until(lambda: shop.driver.execute_script(find, button))
        shop.click(button)
        question = text_of(shop.driver, "dialog.question")
        assert f"stepper (pid {one.pid}" in question
        assert shop.driver.execute_script("return document.activeElement.id") == "attach-no"
        shop.click("#attach-no")
        assert shop.driver.execute_script(find, "dialog.question") is None
        assert not attaching.is_attached(one.pid)

        shop.click(button)
        shop.click("#attach-yes")
        shop.until(lambda: shop.driver.execute_script(find, f"a.process[href='/p/{one.pid}']"))
        assert attaching.is_attached(one.pid)
        for order in ("start", "stop"):
            shop.server.ask(f"/p/{one.pid}/{order}", method="POST")
        cell = f"tr:has([href='/p/{one.pid}']) [data-label^='In use']"
        shop.until(lambda: "left of its capture" in text_of(shop.driver, cell))
        shop.click(f"#detach-{one.pid}")
        shop.until(lambda: not attaching.is_attached(one.pid))
        one.tell("a 10 1000")
    assert_quiet(shop.driver)


def test_the_end_of_the_process_is_said_and_its_last_picture_stays(shop: Shop) -> None:
    shop.open()
    held = shop.samples()
    subprocess.run(["kill", "-9", str(shop.pid)], check=True, timeout=TIMEOUT_S)
    shop.until(lambda: "ended" in text_of(shop.driver, ".live-state"))
    assert "SIGKILL" in text_of(shop.driver, ".live-how") or "ended" in text_of(
        shop.driver, ".live-how"
    )
    assert held[:6] == shop.samples()[:6] == "Total:"
    shop.open()
    assert text_of(shop.driver, ".live-state") == "ended"
    assert shop.server.ask(f"/p/{shop.pid}/profile.heap").status == 200
