"""Pages in headless Chromium: a browser of a width, and what tests ask of a page."""

import contextlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDS_BROWSER = [
    pytest.mark.skipif(
        importlib.util.find_spec("selenium") is None, reason="selenium is not installed"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(DRIVER is None, reason="chromedriver (chromium-driver) is not installed"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def browser(width: int, height: int, *, phone: bool = False) -> Iterator[Any]:
    """Yield a driver of a window of that size; ``phone``: a screen that is touched."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tempfile.mkdtemp(prefix="web-browser-")
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def answer_of(driver: Any, scripts: Iterable[str], code: str, folder: Path) -> Any:
    """Return what the function of JavaScript ``code`` returns or promises, below some scripts."""
    page = folder / "x.html"
    page.write_text("<script>{}\nwindow.asked = {};</script>".format("\n".join(scripts), code))
    driver.get(page.as_uri())
    found = driver.execute_async_script(
        """const done = arguments[0];
           (async () => ({ answer: JSON.stringify(await window.asked()) }))()
             .catch((error) => ({ error: String(error) })).then(done);"""
    )
    assert "answer" in found, found
    return json.loads(found["answer"])


def open_page(driver: Any, address: str, fragment: str = "") -> None:
    """Load a page anew, and wait until it has drawn."""
    driver.get("about:blank")
    driver.get(address + fragment)
    ready = "return document.documentElement.dataset.ready"
    until(driver, lambda page: page.execute_script(ready) == "1")


def assert_quiet(driver: Any) -> None:
    """No error, no refused load, no warning in the browser's log."""
    assert driver.get_log("browser") == []


def element(driver: Any, selector: str) -> Any:
    """Return the first element of a CSS selector."""
    return driver.find_element("css selector", selector)


def text_of(driver: Any, selector: str) -> str:
    """Return the text that shows in it; a page may replace it meanwhile."""
    return str(until(driver, lambda d: [element(d, selector).text])[0])


def until(driver: Any, condition: Callable[[Any], Any], timeout_s: float = 10) -> Any:
    """Wait for a condition, and return what it returns."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    # A live page may replace what a condition has just found.
    gone = [StaleElementReferenceException]
    wait = WebDriverWait(driver, timeout_s, poll_frequency=0.02, ignored_exceptions=gone)
    return wait.until(condition)


class Shown:
    def __init__(self, driver: Any, address: str, fragment: str = "") -> None:
        self.driver = driver
        open_page(driver, address, fragment)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def element(self, selector: str) -> Any:
        """The first element of a selector."""
        return element(self.driver, selector)

    def text(self, selector: str) -> str:
        """What an element shows, blanks folded."""
        return " ".join(text_of(self.driver, selector).split())

    def texts(self, selector: str) -> list[str]:
        """What all elements of a selector show."""
        return [
            " ".join(e.text.split()) for e in self.driver.find_elements("css selector", selector)
        ]

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(self.driver, lambda _: condition())

    def type(self, selector: str, text: str) -> None:
        """Put a text into a box, and Enter."""
        from selenium.webdriver.common.keys import Keys

        box = self.element(selector)
        box.clear()
        box.send_keys(text, Keys.ENTER)

    def search(self, query: str) -> str:
        """What a search says; its first frame is the selected one then."""
        from selenium.webdriver.common.keys import Keys

        box = self.element("#search")
        write = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.run(write, box, "")
        self.until(lambda: not self.text("#search-found"))
        self.run(write, box, query)
        said = self.until(lambda: self.text("#search-found").removeprefix("searching"))
        box.send_keys(Keys.ENTER)
        return str(said)

    @property
    def fragment(self) -> str:
        return str(self.run("return location.hash"))

    def assert_quiet(self) -> None:
        """As `assert_quiet`."""
        assert_quiet(self.driver)
