"""Headless Chromium for tests of pages: start it, open a page, wait for what it shows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """A browser with an empty profile; gone with all it wrote at the end."""
    from selenium import webdriver

    folder = tempfile.mkdtemp(prefix="web-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(folder, ignore_errors=True)


class Shown:
    """One page in a browser."""

    def __init__(self, driver: Any, address: str, fragment: str = "") -> None:
        self.driver = driver
        driver.get("about:blank")
        driver.get(address + fragment)
        assert self.run("return document.documentElement.dataset.ready") == "1"

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def element(self, selector: str) -> Any:
        """The first element of a selector."""
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """What an element shows, blanks folded."""
        return " ".join(self.element(selector).text.split())

    def texts(self, selector: str) -> list[str]:
        """What all elements of a selector show."""
        return [
            " ".join(e.text.split()) for e in self.driver.find_elements("css selector", selector)
        ]

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 10, poll_frequency=0.02).until(lambda _: condition())

    def type(self, selector: str, text: str) -> None:
        """Put a text into a box, and Enter."""
        from selenium.webdriver.common.keys import Keys

        box = self.element(selector)
        box.clear()
        box.send_keys(text, Keys.ENTER)

    @property
    def fragment(self) -> str:
        """The state in the address."""
        return str(self.run("return location.hash"))

    def assert_quiet(self) -> None:
        """No error, no refused load, no warning in the browser's log."""
        assert self.driver.get_log("browser") == []
