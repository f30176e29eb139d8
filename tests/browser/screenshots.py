"""Pictures of the pages that people see: a run with its artifacts, the form of a deployment, the report.

    python -m tests.browser.screenshots --api http://127.0.0.1:4200/api --report runs/demo/report.html --out shots

Takes the newest finished end-to-end run and the deployment end-to-end/local of the server, and logs in with
PREFECT_API_AUTH_STRING or, without it, with the secret of the local stack.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

from infra.server.access import auth_string
from infra.server.login import PAGE_PATH
from infra.settings import settings
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.prefect_api import ask

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTH_PX = 1400
MAX_HEIGHT_PX = 12_000


@dataclass(slots=True)
class Asked:
    """A request of a page.

    Attributes:
        asked_at: Moment of the question, in seconds by the browser's clock.
        answered_at: Moment at which the whole answer was there; None for none yet.
        num_bytes: Bytes of the answer as they were sent.
    """

    method: str
    url: str
    asked_at: float
    answered_at: float | None = None
    num_bytes: int = 0


class Browser:
    """One headless browser that remembers which hosts its pages asked."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str, *, click: str | None = None, until: Sequence[str] = (), settle_s: float = 5.0) -> str:
        """Load a page and return its text.

        Args:
            url: Of the page.
            click: If given, the element with this text is clicked as soon as it is there.
            until: What the page shows in the end; it is waited for.
            settle_s: Time for what the page may do after that.
        """
        self._driver.set_window_size(WIDTH_PX, 1200)
        self._driver.get(url)
        wait = WebDriverWait(self._driver, AGES_S, ignored_exceptions=(StaleElementReferenceException,))
        if click is not None:
            self.click(click)
        for words in until:
            wait.until(lambda _, words=words: words in self.text(), f"the page shows {words!r}: {url}")
        time.sleep(settle_s)
        return self.text()

    def click(self, words: str) -> None:
        """Click the element with this text as soon as it is there."""
        wait = WebDriverWait(self._driver, AGES_S, ignored_exceptions=(StaleElementReferenceException,))
        named = (By.XPATH, f"(//*[normalize-space(.)={words!r}])[last()]")
        wait.until(element_to_be_clickable(named)).click()

    def log_in(self, ui_url: str, auth: str) -> None:
        """Let the pages of a Prefect server have what it asks for, as its own form of logging in leaves it."""
        self._driver.get(f"{ui_url}{PAGE_PATH}")
        self.run("localStorage.setItem('prefect-password', btoa(arguments[0]))", auth)

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, as the page itself could; what it returns, or what its promise comes to."""
        return self._driver.execute_script(script, *arguments)

    def text(self) -> str:
        """What a person can read on the page."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def shoot(self, path: Path) -> Path:
        """Write the page as a PNG, as high as the page is."""
        height = self._driver.execute_script(
            "return Math.max(document.body.scrollHeight, document.documentElement.scrollHeight,"
            " ...[...document.querySelectorAll('main, [class*=layout]')].map(e => e.scrollHeight))"
        )
        self._driver.set_window_size(WIDTH_PX, min(int(height) + 150, MAX_HEIGHT_PX))
        time.sleep(1.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._driver.save_screenshot(str(path))
        return path

    def print(self) -> bytes:
        """The page as a PDF, as its own style for paper wants it."""
        found = self._driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
        return base64.b64decode(found["data"])

    def errors(self) -> list[str]:
        """Severe messages of the console since the last call, such as failed scripts and missing files."""
        return [entry["message"] for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[Asked]:
        """What pages asked since the last call, in the order of the questions."""
        found: dict[str, Asked] = {}
        for entry in self._driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            kind, given = message["method"], message["params"]
            if kind == "Network.requestWillBeSent":
                asked = given["request"]
                found[given["requestId"]] = Asked(asked["method"], asked["url"], given["timestamp"])
            elif kind in ("Network.loadingFinished", "Network.loadingFailed") and given["requestId"] in found:
                found[given["requestId"]].answered_at = given["timestamp"]
                found[given["requestId"]].num_bytes = int(given.get("encodedDataLength", 0))
        return list(found.values())

    def asked_hosts(self) -> set[str]:
        """Hosts that pages asked since the last call; files and data inside the page have none."""
        hosts = set()
        for entry in self._driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                # Not httpx.URL: it refuses the length of pictures inside a page (data: addresses). The browser's own
                # first page has chrome: addresses.
                address = urlsplit(message["params"]["request"]["url"])
                if address.scheme in ("http", "https", "ws", "wss"):
                    hosts.add(address.hostname)
        return {host for host in hosts if host}


def why_no_browser() -> str | None:
    """The reason why there is no browser to look with, or None."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found (Debian: apt-get install chromium chromium-driver)" if missing else None


@contextmanager
def open_browser(*flags: str) -> Iterator[Browser]:
    """A browser with an empty profile of its own and further flags, closed at the end."""
    profile = tempfile.mkdtemp(prefix="inf-browser-")
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(AGES_S)
        driver.set_script_timeout(AGES_S)
        yield Browser(driver)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots")
    parser.add_argument("--api", default="http://127.0.0.1:4200/api")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    ui = options.api.removesuffix("/api")
    auth = os.environ.setdefault("PREFECT_API_AUTH_STRING", auth_string(settings()) or "")
    runs = ask(
        options.api,
        "flow_runs/filter",
        {"sort": "START_TIME_DESC", "limit": 1, "flows": {"name": {"any_": ["end-to-end"]}}},
    )
    deployments = ask(options.api, "deployments/filter", {"flows": {"name": {"any_": ["end-to-end"]}}, "limit": 1})
    pages: dict[str, tuple[str, str | None]] = {"report": (options.report.resolve().as_uri(), None)}
    if runs:
        run = f"{ui}/runs/flow-run/{runs[0]['id']}"
        pages |= {"run": (run, None), "run-artifacts": (run, "Artifacts")}
    if deployments:
        pages["form"] = (f"{ui}/deployments/deployment/{deployments[0]['id']}/run", None)
    with open_browser() as browser:
        browser.log_in(ui, auth)
        for name, (url, click) in pages.items():
            try:
                browser.open(url, click=click)
            except WebDriverException as error:
                print(f"error: {name} ({url}): {error.msg}", file=sys.stderr)
                return 1
            print(browser.shoot(options.out / f"{name}.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
