"""The demo in a real headless Chromium, on a real server: search, play, inspect, bring a video, misuse."""

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest
from browser import quit_browser, resize, start_browser
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from toys import CAPTIONS, write_clip

from fpig.embedding import embed_captions, embed_videos
from fpig.index import index_videos
from fpig.search import find_videos

QUERY = "two balls"  # the toy model matches it to different frames of different videos
EVIL_NAME = '<img src=x onerror="window.evil = 1">&\'.mp4'
LONG_TIME = 60


@pytest.fixture(scope="module")
def videos_dir(tmp_path_factory):
    """Eight clips; one has a hostile name, one no browser plays."""
    folder = tmp_path_factory.mktemp("demo") / "videos"
    folder.mkdir()
    for seed in range(6):
        write_clip(folder / f"{seed}.mp4", seed, num_frames=8 + seed)
    write_clip(folder / EVIL_NAME, 30, num_frames=12)
    write_clip(folder / "unplayable.avi", 8, num_frames=16)
    return folder


@pytest.fixture(scope="module")
def server(release, videos_dir):
    """`fpig demo` on a free port, with captions to explain by."""
    captions = videos_dir.parent / "captions.txt"
    captions.write_text("\n".join(CAPTIONS), encoding="utf-8")
    uploads = videos_dir.parent / "uploads"
    command = [sys.executable, "-m", "fpig", "demo", str(release), str(videos_dir), "--port", "0"]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
    log = videos_dir.parent / "demo.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--captions", str(captions)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        line = process.stdout.readline()
        assert re.fullmatch(r"8 videos: http://127\.0\.0\.1:\d+\n", line), line + log.read_text()
        yield SimpleNamespace(url=line.split()[-1], process=process, uploads=uploads, log=log)
        # As a page that is open: the server ends all the same.
        with urlopen(f"{line.split()[-1]}/gradio_api/heartbeat/visitor", timeout=LONG_TIME):
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
    assert "/fpig/" not in log.read_text(), log.read_text()  # no traceback through our files


@pytest.fixture
def open_page(server):
    """`open_page()` → a visitor's browser that shows the page."""
    browsers = []

    def open_one(width=1200, height=900):
        chrome = start_browser(width, height)
        browsers.append(chrome)
        chrome.get(server.url)
        wait(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, "input[type=file]"))
        return chrome

    yield open_one
    for chrome in browsers:
        assert chrome.execute_script("return window.evil") is None
        severe = [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]
        quit_browser(chrome)
        assert all("413" in message or "400" in message for message in severe), severe


@pytest.fixture
def page(open_page):
    return open_page()


def wait(chrome, condition):
    return WebDriverWait(chrome, LONG_TIME).until(lambda _: condition())


def find_button(chrome, text):
    return next(button for button in chrome.find_elements(By.TAG_NAME, "button") if button.text == text)


def read_hits(chrome):
    """(rank, name, score, seconds) of every video shown."""
    texts = chrome.execute_script("return [...document.querySelectorAll('.hit p')].map(p => p.innerText)")
    pattern = re.compile(r"(\d+)\. (.+)\nscore (-?[\d.]+), from ([\d.]+) s")
    return [(int(m[1]), m[2], float(m[3]), float(m[4])) for m in map(pattern.fullmatch, texts)]


def search(chrome, query):
    """Types a sentence, and waits for what is found by it."""
    before = read_hits(chrome)
    box = chrome.find_element(By.CSS_SELECTOR, "input[type=text]")
    box.clear()
    box.send_keys(query, Keys.ENTER)
    wait(chrome, lambda: read_hits(chrome) not in ([], before))
    return read_hits(chrome)


def read_message(chrome):
    """The error on the page, which is then closed."""
    read = "return document.querySelector('[data-testid=toast-text]')?.textContent"
    text = wait(chrome, lambda: chrome.execute_script(read))
    assert not chrome.find_elements(By.CSS_SELECTOR, "[data-testid=toast-text] *")
    chrome.execute_script("document.querySelector('[data-testid=toast-close]').click()")
    wait(chrome, lambda: not chrome.find_elements(By.CSS_SELECTOR, "[data-testid=toast-body]"))
    return text


def bring(chrome, path):
    chrome.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(path))


def rank_videos(model, processor, paths, query):
    """What the page should show, computed here: (rank, name, score, seconds)."""
    text_embed = embed_captions(model, processor, [query])[0]
    scores = (embed_videos(model, processor, paths) @ text_embed).tolist()
    index = index_videos(model, processor, paths)
    rows = []
    for rank, number in enumerate(sorted(range(len(paths)), key=lambda n: -scores[n])[:6], start=1):
        frame = int((index[number].frame_embeds @ text_embed).argmax())
        seconds = processor.video_processor.read_frame_seconds(paths[number])[frame]
        rows.append((rank, paths[number].name, round(scores[number], 3), round(seconds, 2)))
    return rows


def test_search_shows_the_best_videos_from_their_matched_frames(page, model, processor, videos_dir):
    expected = rank_videos(model, processor, find_videos(videos_dir), QUERY)
    assert len({seconds for *_, seconds in expected}) > 2
    assert {EVIL_NAME, "unplayable.avi"} <= {name for _, name, *_ in expected}
    hits = search(page, QUERY)
    assert [hit[:2] for hit in hits] == [row[:2] for row in expected]
    np.testing.assert_allclose([hit[2:] for hit in hits], [row[2:] for row in expected], atol=2e-3)
    state = "return [...document.querySelectorAll('.hit video')].map(v => [v.ariaLabel, v.currentSrc, "
    state += "v.error === null && v.readyState > 1 && !v.paused, v.videoWidth])"
    wait(page, lambda: all(is_fine for *_, is_fine, _ in page.execute_script(state)))
    for name, source, _, width in page.execute_script(state):
        seconds = next(row[3] for row in expected if row[1] == name)
        assert source.endswith(f"#t={seconds:.2f}")
        assert width == 32
    assert len(page.execute_script(state)) == 5


def test_videos_start_at_their_matched_frame(page, model, processor, videos_dir):
    expected = rank_videos(model, processor, find_videos(videos_dir), QUERY)
    late = max(
        (row for row in expected if not row[1].endswith("avi") and row[1] != EVIL_NAME), key=lambda r: r[3]
    )
    assert late[3] > 0.3
    page.execute_script(
        "window.starts = {}; document.addEventListener('timeupdate', event => { const v = event.target; "
        "if (!(v.ariaLabel in starts)) starts[v.ariaLabel] = v.currentTime; }, true)"
    )
    search(page, QUERY)
    wait(page, lambda: late[1] in page.execute_script("return window.starts"))
    assert page.execute_script("return window.starts")[late[1]] >= late[3] - 0.01


def test_of_a_video_that_browsers_do_not_play_the_matched_frame_is_shown(page, processor, videos_dir):
    hits = search(page, QUERY)
    seconds = next(hit[3] for hit in hits if hit[1] == "unplayable.avi")
    picture = page.find_element(By.CSS_SELECTOR, ".hit img")
    assert picture.get_attribute("alt") == f"frame of unplayable.avi at {seconds:.2f} s"
    assert page.execute_script("return arguments[0].naturalWidth", picture) == 240
    assert np.ptp(read_picture(picture)) > 100


def read_picture(image):
    encoded = image.get_attribute("src").removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)


def test_why_shows_the_selected_patches_and_the_nearest_captions(page, model, processor, videos_dir):
    name = search(page, QUERY)[1][1]
    find_button(page, "Why number 2?").click()
    figures = wait(page, lambda: page.find_elements(By.CSS_SELECTOR, ".frames figure"))
    video = index_videos(model, processor, [videos_dir / name])[0]
    patches_per_frame = model.config.num_patches
    frames = [
        (i - model.config.num_global_tokens) // (1 + patches_per_frame) for i in video.selected_token_indices
    ]
    query_embed = embed_captions(model, processor, [QUERY])[0]
    scores = (video.frame_embeds @ query_embed).tolist()
    for number, figure in enumerate(figures):
        image = figure.find_element(By.TAG_NAME, "img")
        assert image.get_attribute("alt") == (
            f"frame at {video.frame_seconds[number]:.2f} s with {frames.count(number)} selected patches"
        )
        yellow = (read_picture(image) == (255, 214, 0)).all(axis=-1)
        assert yellow.sum() == frames.count(number) * (80**2 - 76**2)
        caption = figure.find_element(By.TAG_NAME, "figcaption").text.split(" · ")
        assert float(caption[1]) == pytest.approx(scores[number], abs=2e-3)
        assert (caption[2:] == ["best match"]) == (scores[number] == max(scores))
    assert len(figures) == 4
    shown = [item.text for item in page.find_elements(By.CSS_SELECTOR, ".captions li")]
    cosines = (embed_captions(model, processor, CAPTIONS) @ video.pseudo_query_embed).tolist()
    pairs = sorted(zip(cosines, CAPTIONS, strict=True), reverse=True)
    assert shown == [f"{text} {cosine:.3f}" for cosine, text in pairs]
    assert name in page.find_element(By.CSS_SELECTOR, "#why h2").text
    search(page, "a red circle moves left")
    wait(
        page, lambda: not page.find_elements(By.CSS_SELECTOR, ".frames figure")
    )  # it answered the search before


def test_a_video_of_ones_own_is_found_played_and_explained(page, model, processor, videos_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    mine = write_clip(tmp_path / "mine" / "my holiday.mp4", 8, num_frames=20)
    bring(page, mine)
    wait(page, lambda: "my holiday.mp4 is among the 9 videos" in page.find_element(By.TAG_NAME, "body").text)
    hits = search(page, QUERY)
    expected = rank_videos(model, processor, [*find_videos(videos_dir), mine], QUERY)
    assert [hit[:2] for hit in hits] == [row[:2] for row in expected]
    rank = next(rank for rank, name, *_ in hits if name == mine.name)
    state = "const v = document.querySelector('video[aria-label=\"my holiday.mp4\"]'); "
    state += "return v && v.error === null && v.readyState > 1 && !v.paused"
    wait(page, lambda: page.execute_script(state))
    find_button(page, f"Why number {rank}?").click()
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".frames figure")) == 4)
    assert "my holiday.mp4" in page.find_element(By.CSS_SELECTOR, "#why h2").text


def test_a_hostile_name_is_only_a_name(page, tmp_path):
    bring(page, write_clip(tmp_path / EVIL_NAME, 3))
    wait(page, lambda: "among the 9 videos" in page.find_element(By.TAG_NAME, "body").text)
    search(page, QUERY)
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x]")
    (tmp_path / "2").mkdir()
    nothing = tmp_path / "2" / EVIL_NAME
    nothing.write_text("no video")
    bring(page, nothing)
    assert "can't read the video" in read_message(page)


def test_what_is_no_video_is_refused_and_the_page_goes_on(page, tmp_path, server):
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    bring(page, tmp_path / "text.mp4")
    message = read_message(page)
    assert message.startswith("can't read the video `text.mp4`: it is damaged or in none of the formats")
    assert str(server.uploads) not in message
    (tmp_path / "empty.mp4").touch()
    bring(page, tmp_path / "empty.mp4")
    assert "`empty.mp4`" in read_message(page)
    (tmp_path / "notes.txt").write_text("no video at all")
    bring(page, tmp_path / "notes.txt")
    assert "Invalid file type" in read_message(page)
    assert len(search(page, QUERY)) == 6


def test_two_gigabytes_are_refused(page, tmp_path, server):
    with (tmp_path / "big.mp4").open("wb") as file:
        file.truncate(2 << 30)
    bring(page, tmp_path / "big.mp4")
    assert "maximum allowed size of 200" in read_message(page)
    assert len(search(page, QUERY)) == 6
    status, answer = post_file(server.url, 300 << 20)  # past the page, which looks at the size by itself
    assert (status, b"maximum allowed size" in answer) == (413, True)
    sizes = [path.stat().st_size for path in server.uploads.rglob("*") if path.is_file()]
    assert max(sizes, default=0) < 1 << 22


def post_file(url, num_bytes, name="big.mp4"):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=LONG_TIME)
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(len(head) + num_bytes + 9))
    connection.endheaders(head)
    for _ in range(num_bytes >> 20):
        connection.send(bytes(1 << 20))
    connection.send(b"\r\n--x--\r\n")
    response = connection.getresponse()
    return response.status, response.read()


def test_an_upload_stays_in_its_folder(server):
    status, answer = post_file(server.url, 1 << 20, name="../../../outside.mp4")
    assert status == 200
    path = Path(json.loads(answer)[0])
    assert path.resolve().is_relative_to(server.uploads.resolve())
    assert [found.parent for found in server.uploads.parent.rglob("*outside*")] == [path.parent]


def test_nothing_else_of_the_machine_is_served(server, release, videos_dir):
    def get(path):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=LONG_TIME)
        connection.request("GET", path)
        return connection.getresponse()

    first = get("/videos/0")
    assert (first.status, first.read()) == (200, (videos_dir / "0.mp4").read_bytes())
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    assert [get(path).status for path in ("/docs", "/redoc")] == [404] * 2
    assert [get(f"/videos/{number}").status for number in ("8", "-1", "0/../..")] == [404] * 3
    for path in (release / "config.json", videos_dir / "0.mp4", videos_dir.parent / "captions.txt"):
        assert get(f"/gradio_api/file={path}").status in (403, 404)
    # A file of this machine is no upload, whoever says so.
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=LONG_TIME)
    config = json.loads(get("/config").read())
    number = next(d["id"] for d in config["dependencies"] if any(t[1] == "upload" for t in d["targets"]))
    private = write_clip(videos_dir.parent / "private.mp4", 3)
    payload = {"path": str(private), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [payload, None], "fn_index": number, "session_hash": "visitor"})
    connection.request("POST", "/gradio_api/run/predict", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status >= 400, b"is among the" in answer.read()) == (True, False)
    assert not list(server.uploads.rglob("private*"))


def test_two_visitors_at_once_see_their_own(open_page, model, processor, videos_dir, tmp_path):
    first, second = open_page(), open_page()
    bring(first, write_clip(tmp_path / "mine.mp4", 8, num_frames=20))
    wait(first, lambda: "mine.mp4 is among" in first.find_element(By.TAG_NAME, "body").text)
    queries = (QUERY, "a red circle moves left")
    for chrome, query in zip((first, second), queries, strict=True):
        chrome.find_element(By.CSS_SELECTOR, "input[type=text]").send_keys(query)
    for chrome in (first, second):
        find_button(chrome, "Search").click()
    paths = find_videos(videos_dir)
    hits = [wait(chrome, lambda chrome=chrome: read_hits(chrome)) for chrome in (first, second)]
    expected = [
        rank_videos(model, processor, [*paths, tmp_path / "mine.mp4"], QUERY),
        rank_videos(model, processor, paths, queries[1]),
    ]
    assert [[hit[:2] for hit in each] for each in hits] == [[row[:2] for row in each] for each in expected]
    assert "mine.mp4" in [name for _, name, *_ in hits[0]]
    find_button(first, "Why number 1?").click()
    find_button(second, "Why number 1?").click()
    for chrome, own, query in zip((first, second), hits, queries, strict=True):
        heading = wait(chrome, lambda chrome=chrome: chrome.find_elements(By.CSS_SELECTOR, "#why h2"))[0]
        assert heading.text == f"Why {own[0][1]}?"
        assert query in chrome.find_element(By.ID, "why").text


def test_the_keyboard_is_enough(page):
    assert page.switch_to.active_element.get_attribute("type") == "text"
    page.switch_to.active_element.send_keys(QUERY, Keys.TAB)
    assert page.switch_to.active_element.text == "Search"
    page.switch_to.active_element.send_keys(Keys.SPACE)
    wait(page, lambda: len(read_hits(page)) == 6)
    seen = []
    while page.switch_to.active_element.text != "Why number 1?":
        page.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(page.switch_to.active_element.text)
        assert len(seen) < 20, seen
    assert "Bring a video" in seen
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".frames figure")) == 4)


def test_an_example_searches(page):
    find_button(page, CAPTIONS[1]).click()
    assert len(wait(page, lambda: read_hits(page))) == 6
    assert page.find_element(By.CSS_SELECTOR, "input[type=text]").get_attribute("value") == CAPTIONS[1]


def test_no_sentence_is_a_message_and_a_long_one_is_cut(page):
    find_button(page, "Search").click()
    assert read_message(page) == "`query` is ''; say what to look for"
    box = page.find_element(By.CSS_SELECTOR, "input[type=text]")
    box.send_keys("ball " * 120)
    assert len(box.get_attribute("value")) == 500


def test_a_phone_shows_all_of_it(page):
    resize(page, 390, 844)
    search(page, QUERY)
    find_button(page, "Why number 1?").click()
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".frames figure")) == 4)
    too_wide = "return [...document.querySelectorAll('h1, h2, p, li, video, img, button, input[type=text]')]"
    too_wide += ".filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth)"
    too_wide += ".map(e => e.outerHTML.slice(0, 200))"
    assert page.execute_script(too_wide) == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    columns = {v.location["x"] for v in page.find_elements(By.CSS_SELECTOR, ".hit video")}
    assert len(columns) == 1
