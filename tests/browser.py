"""A headless Chromium for the tests of our pages; it calls nobody and downloads no driver."""

import shutil
import tempfile

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def find_browser() -> tuple[str, str] | None:
    """The paths of a browser and its driver, or None where one of them is missing."""
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def start_browser(width: int, height: int) -> webdriver.Chrome:
    """
    A browser with a fresh profile that sees `width` × `height` CSS pixels; end it with `quit_browser`.

    Skips the test where there is no browser.
    """
    found = find_browser()
    if found is None:
        pytest.skip("no browser: needs `chromium` and `chromedriver` on the PATH")
    browser, driver = found
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile = tempfile.mkdtemp(prefix="fpig-browser-")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.profile = profile
    resize(chrome, width, height)
    return chrome


def resize(chrome: webdriver.Chrome, width: int, height: int) -> None:
    """The size of what a page sees; a window can't be as narrow as a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def quit_browser(chrome: webdriver.Chrome) -> None:
    """Ends the browser and its driver and removes the profile."""
    chrome.quit()
    shutil.rmtree(chrome.profile, ignore_errors=True)


__all__ = ["find_browser", "quit_browser", "resize", "start_browser"]
