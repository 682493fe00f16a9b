"""
Takes the pictures of the demo, `docs/demo.png` and `docs/demo_phone.png`, from one that runs:

    fpig demo outputs/shapes shapes --port 7860
    PYTHONPATH=tests python docs/photograph_demo.py http://127.0.0.1:7860 "a small white ring grows"
"""

import sys
import time
from pathlib import Path

from browser import quit_browser, resize, start_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

FOLDER = Path(__file__).parent
PLAYING_SECONDS = 2.5


def photograph(url: str, query: str) -> None:
    """Searches, asks why the first video was found, and takes both pictures."""
    chrome = start_browser(1200, 900)
    wait = WebDriverWait(chrome, 60)
    try:
        chrome.get(url)
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "input[type=text]"))[0].send_keys(
            query, Keys.ENTER
        )
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".hit p"))
        next(b for b in chrome.find_elements(By.TAG_NAME, "button") if b.text == "Why number 1?").click()
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".captions li"))
        resize(chrome, 1200, chrome.execute_script("return document.body.scrollHeight"))
        time.sleep(PLAYING_SECONDS)
        chrome.save_screenshot(str(FOLDER / "demo.png"))
        resize(chrome, 390, 844)
        chrome.execute_script("document.getElementById('why').scrollIntoView()")
        time.sleep(PLAYING_SECONDS)
        chrome.save_screenshot(str(FOLDER / "demo_phone.png"))
    finally:
        quit_browser(chrome)


if __name__ == "__main__":
    photograph(*sys.argv[1:])
