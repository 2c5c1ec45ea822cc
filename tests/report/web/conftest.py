"""A browser that opens reports, and what tests do in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdlight.report.page import write_report

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture
def opened(browser, make_run, tmp_path: Path):
    """Opens a report; afterwards nothing may have been fetched or logged as an error."""

    def open_report(*runs: Path, **arguments):
        page = write_report(runs or [make_run()], tmp_path / "report.html", **arguments)
        browser.get(page.as_uri())
        return browser

    yield open_report
    entries = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    names = browser.execute_script(entries)
    assert [name for name in names if not name.startswith("data:")] == []
    assert browser.get_log("browser") == []


@pytest.fixture
def page(browser):
    """Ways to find things on the open page, and to use its controls."""

    def find(selector: str):
        return browser.find_element("css selector", selector)

    def every(selector: str):
        return browser.find_elements("css selector", selector)

    def section(title: str):
        path = f"//section[.//h2[normalize-space()='{title}']]"
        return browser.find_elements("xpath", path)

    def slide(selector: str, value: int) -> None:
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        browser.execute_script(script, find(selector), value)

    def choose(label: str, value: str) -> None:
        script = (
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
        )
        browser.execute_script(script, find(f"select[aria-label='{label}']"), value)

    def unfold(title: str) -> None:
        path = f"//summary[contains(normalize-space(), '{title}')]"
        browser.find_element("xpath", path).click()

    return SimpleNamespace(
        find=find, every=every, section=section, slide=slide, choose=choose, unfold=unfold
    )


@pytest.fixture
def wide(browser):
    """Sets the width of the window in pixels and waits until charts and tables have followed."""

    def set_width(width: int) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        later = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 50))"
        browser.execute_async_script(later)

    yield set_width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
