"""The metric's Space: run files, uploads with limits, and the page in a real browser on a real server."""

import gzip
import http.client
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from browser import quit_browser, resize, start_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_metric import FOLDER
from video_retrieval import uploads
from video_retrieval.app import measure_matrix, measure_run, show
from video_retrieval.ranking import rank_scores, summarize_retrieval
from video_retrieval.run_files import rank_run

LONG_TIME = 60
RECALLS = ("t2v_R@1", "t2v_R@5", "t2v_R@10", "t2v_SumR")
EVIL = "<img src=x onerror=window.evil=1>"


def write(path, content):
    """`content` is text, bytes or an array."""
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def make_ties(seed=0):
    """Scores with many ties [60, 25], and the video of each caption."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 6, (60, 25)) / 7, generator.integers(0, 20, 60)


def make_run(scores, labels, seed=0):
    """The matrix as lines of a run, in any order and with senseless ranks, and its qrels."""
    lines = [
        f"q{row}\tQ0  v{column} {column % 3} {score!r} tag\n"
        for row, values in enumerate(scores.tolist())
        for column, score in enumerate(values)
    ]
    order = np.random.default_rng(seed).permutation(len(lines))
    qrels = [f"q{row} 0 v{label} 1\nq{row} 0 v{(label + 1) % 25} 0\n" for row, label in enumerate(labels)]
    return "".join(lines[index] for index in order), "".join(qrels)


def test_ranks_of_a_run_by_hand():
    run = {
        "a": {"x": 0.1, "y": 0.9, "z": 0.5},
        "b": {"x": 3.0, "y": 3.0, "z": 3.0, "w": 4.0},
        "c": {"x": 1.0},
        "other": {"x": 1.0},
    }
    qrels = {"c": {"y": 1}, "b": {"x": 0, "y": 1}, "a": {"z": 2, "w": -1}}
    ranks = rank_run(run, qrels)
    assert ranks.t2v.tolist() == [np.inf, 4.0, 2.0]
    assert ranks.t2v_ties.tolist() == [0, 2, 0]


@pytest.mark.parametrize("suffix", [".txt", ".run.gz"])
def test_a_whole_run_is_the_matrix(tmp_path, suffix):
    scores, labels = make_ties()
    run, qrels = make_run(scores, labels)
    content = gzip.compress(run.encode()) if suffix.endswith(".gz") else run
    _, results = measure_run(write(tmp_path / f"run{suffix}", content), write(tmp_path / "qrels", qrels))
    expected = summarize_retrieval(rank_scores(scores, labels))
    assert expected["t2v_num_tied_queries"] > 20
    assert results == {k: v for k, v in expected.items() if k.startswith("t2v_")} | {
        "t2v_num_missing_videos": 0
    }


def test_a_run_that_lacks_true_videos(tmp_path):
    """Missed at every k; no median, even where most videos are there, and no mean."""
    qrels = write(tmp_path / "qrels", "1 0 a 1\n2 0 b 1\n3 0 c 1\n")
    lines = "1 Q0 a 1 2.5 t\n2 Q0 b 1 1 t\n2 Q0 a 2 9 t\n3 Q0 a 1 1e-3 t\n3 Q0 b 2 -inf t\n"
    heading, results = measure_run(write(tmp_path / "run", lines), qrels)
    assert heading == "run: 3 topics, 1 whose video is not in the run"
    assert results == {
        "t2v_R@1": pytest.approx(100 / 3),
        "t2v_R@5": pytest.approx(200 / 3),
        "t2v_R@10": pytest.approx(200 / 3),
        "t2v_SumR": pytest.approx(500 / 3),
        "t2v_num_tied_queries": 0,
        "t2v_num_missing_videos": 1,
    }
    html, numbers = show(measure_run)(str(tmp_path / "run"), qrels)
    assert html.count("<td>unknown</td>") == 2
    assert json.loads(numbers) == results


def test_recall_of_a_cut_run_is_trec_evals(tmp_path):
    """Its success at k, on a run without ties that is cut at seven."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores = np.random.default_rng(3).permuted(np.tile(np.arange(25.0), (60, 1)), axis=1)
    labels = np.arange(60) % 25
    scores[scores < 18] = np.nan
    run, qrels = make_run(scores, labels)
    run = "".join(line for line in run.splitlines(keepends=True) if " nan " not in line)
    paths = write(tmp_path / "run", run), write(tmp_path / "qrels", qrels)
    _, results = measure_run(*paths)
    with open(paths[0]) as run_file, open(paths[1]) as qrels_file:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(qrels_file), {"success"})
        queries = evaluator.evaluate(pytrec_eval.parse_run(run_file)).values()
    for k in (1, 5, 10):
        expected = 100 * sum(query[f"success_{k}"] for query in queries) / len(queries)
        assert results[f"t2v_R@{k}"] == pytest.approx(expected)
    assert 0 < results["t2v_R@1"] < results["t2v_R@5"] < results["t2v_R@10"] < 60


RUN, QRELS = "1 Q0 a 1 2 t\n1 Q0 b 2 1 t\n", "1 0 a 1\n"


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        (
            "1 Q0 a 1 2 t\n1 Q0 b 2 1\n",
            QRELS,
            r"`run` has '1 Q0 b 2 1' in line 2; a line has 6 columns: topic",
        ),
        ("1 Q0 a 1 2 t x\n", QRELS, r"`run` has '1 Q0 a 1 2 t x' in line 1; a line has 6 columns"),
        ("\n1 Q0 a 1 best t\n", QRELS, r"`run` has the score 'best' in line 2; a score is a number"),
        ("1 Q0 a 1 nan t\n", QRELS, r"`run` has the score 'nan' in line 1; a score is a number and not NaN"),
        (RUN + "1 Q0 a 3 0 t\n", QRELS, r"`run` lists 'a' again in line 3; .* remove one"),
        (RUN.encode("utf-16"), QRELS, r"`run` is no text in line 1; write it in UTF-8"),
        (RUN, "1 a 1\n", r"`qrels` has '1 a 1' in line 1; a line has 4 columns: topic 0 document relevance"),
        (RUN, "1 0 a yes\n", r"`qrels` has the relevance 'yes' in line 1; it is a whole number"),
        (RUN, "1 0 a 1\n1 0 a 0\n", r"`qrels` lists 'a' again in line 2"),
        (RUN, "\n", r"`qrels` is empty; write the true video of each topic"),
        (RUN, "1 0 a 1\n1 0 b 2\n", r"`qrels` has 2 relevant videos for topic '1'; .* a topic has one"),
        (RUN, "1 0 a 0\n", r"`qrels` has 0 relevant videos for topic '1'"),
        (RUN, "7 0 a 1\n1 0 a 1\n9 0 b 1\n", r"`run` lacks 2 of the 3 topics of the qrels, the first is '7'"),
        ("", QRELS, r"`run` lacks 1 of the 1 topics"),
        (None, QRELS, r"`run` or `qrels` is not there; choose a file"),
        (RUN, None, r"`run` or `qrels` is not there"),
    ],
)
def test_bad_runs_are_refused(tmp_path, run, qrels, message):
    paths = [
        text if text is None else write(tmp_path / name, text)
        for name, text in (("run", run), ("qrels", qrels))
    ]
    with pytest.raises(ValueError, match=message):
        measure_run(*paths)


def write_table(scores, separator):
    return "".join(separator.join(map(repr, row)) + "\r\n" for row in scores.tolist())


def test_a_matrix_of_any_form_gives_the_metric(tmp_path):
    scores, labels = make_ties()
    scores[0, labels[0]] = 1 + 1e-12  # in single precision this would be a tie
    scores[0, labels[0] - 1] = 1.0
    expected = summarize_retrieval(rank_scores(scores, labels))
    whole = np.rint(scores * 7).astype(np.int8)
    files = [
        (write(tmp_path / "a.npy", scores), expected),
        (write(tmp_path / "b.npy", np.asfortranarray(scores.astype(">f8"))), expected),
        (write(tmp_path / "c.csv", b"\xef\xbb\xbf" + write_table(scores, ",").encode()), expected),
        (write(tmp_path / "d.TSV", "\n" + write_table(scores, "\t")), expected),
    ]
    expected = summarize_retrieval(rank_scores(whole.astype(float), labels))
    files += [
        (write(tmp_path / f"{index}.npy", whole.astype(kind)), expected)
        for index, kind in enumerate(("i1", "u2", "i8", "f2", "f4"))
    ]
    indices = [
        write(tmp_path / "i.npy", labels.astype(np.int32)),
        write(tmp_path / "i.txt", "\n".join(map(str, labels)) + "\n"),
        write(tmp_path / "i.csv", ", ".join(map(str, labels[:30])) + ",\n" + " ".join(map(str, labels[30:]))),
    ]
    for path, results in files:
        assert measure_matrix(path, indices[0])[1] == results
    for path in indices:
        assert measure_matrix(files[0][0], path)[1] == files[0][1]
    assert measure_matrix(files[0][0], indices[0])[0] == "a.npy: 60 captions, 25 videos"


def test_a_square_matrix_needs_no_indices(tmp_path):
    scores = np.random.default_rng(1).random((12, 12))
    path = write(tmp_path / "s.npy", scores)
    assert measure_matrix(path, None)[1] == summarize_retrieval(rank_scores(scores, np.arange(12)))
    turned = write(tmp_path / "i.txt", "\n".join(map(str, (np.arange(12) + 1) % 12)))
    assert measure_matrix(path, turned)[1] != measure_matrix(path, None)[1]


class Bomb:
    """Its pickle would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def make_header(shape, kind="<f4", version=b"\x01\x00"):
    """A .npy file that says it has a shape, and has no data."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "1,2\n3,four\n", r"`s.csv` has 'four' in line 2, column 2; .* without header"),
        ("s.csv", "1,2\n\n3,\n", r"`s.csv` has '' in line 3, column 2; .* ',' between"),
        ("s.csv", "a" * 90 + ",2\n", r"`s.csv` has 'a{39}… in line 1, column 1"),
        ("s.tsv", "1,2\n3,4\n", r"`s.tsv` has '1,2' in line 1, column 1; .* '\\t' between"),
        ("s.csv", "1,2\n3,4,5\n", r"`s.csv` has 3 scores in line 2 but 2 in the first; every caption needs"),
        ("s.csv", "1,2\n3,nan\n", r"`s.csv` has a NaN in row 2, column 2; a NaN has no rank"),
        ("s.csv", " \n", r"`s.csv` is empty; write one row of scores per caption"),
        ("s.csv", b"1,\xff\n", r"`s.csv` is no text in line 1"),
        ("s.csv", "1,2\n", r"`s.csv` has 1 captions and 2 videos; in a square matrix alone .* choose a file"),
        ("s.npz", "1", r"`s.npz` ends in '.npz'; a matrix of scores is a .npy, .csv or .tsv file"),
        ("s.npy", np.array([[1.0, 2.0], [np.nan, 1.0]]), r"`s.npy` has a NaN in row 2, column 1"),
        ("s.npy", np.ones(3), r"`s.npy` has the shape \(3,\); a matrix of scores has two dimensions"),
        ("s.npy", np.ones((2, 0)), r"`s.npy` says .* \(2, 0\) .* must agree and not be empty"),
        ("s.npy", np.array([["a"]]), r"`s.npy` is of type <U1; whole and floating-point numbers are loaded"),
        ("s.npy", np.array([[True]]), r"`s.npy` is of type bool"),
        ("s.npy", b"PK\x03\x04", r"`s.npy` does not begin as a .npy file does; use numpy.save"),
        ("s.npy", make_header("-" * 5000 + "1"), r"`s.npy` does not begin as"),
        ("s.npy", make_header("(1, 1)", version=b"\x09\x00"), r"`s.npy` does not begin as"),
        ("s.npy", make_header((10**6, 50)), r"`s.npy` says .* \(1000000, 50\) of type float32, .* 0 bytes"),
        ("s.npy", make_header((2**32, 2**32)), r"`s.npy` says .* \(4294967296, 4294967296\)"),
        ("s.npy", make_header((-1, -2)) + bytes(8), r"`s.npy` says .* \(-1, -2\)"),
        ("s.npy", make_header((2, 2)) + bytes(12), r"`s.npy` says .* but it has 12 bytes of data"),
        ("s.npy", make_header((0,) * 1000), r"`s.npy` says that it has the shape \(0, [0, ]{36}… of"),
        ("s.npy", make_header((9, 9), kind="|V0"), r"`s.npy` is of type \|V0"),
    ],
)
def test_bad_matrices_are_refused(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        measure_matrix(path, None)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("content", [np.array([[1, None]], object), "a pickle"])
def test_nothing_in_a_file_is_executed(tmp_path, content):
    bomb = Bomb(str(tmp_path / "executed"))
    if isinstance(content, np.ndarray):
        content[0, 1] = bomb
    else:
        content = pickle.dumps(bomb)
    path = write(tmp_path / "s.npy", content)
    with pytest.raises(ValueError, match=r"`s.npy` (is of type object|does not begin as a .npy file does)"):
        measure_matrix(path, None)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("i.txt", "0\n1.5\n", r"`i.txt` has '1.5' in line 2; a video index is a whole number: write one per"),
        ("i.txt", "0\n" + "9" * 5000, r"`i.txt` has '9{39}… in line 2"),
        ("i.txt", "\n", r"`i.txt` is empty; write one video index per caption"),
        ("i.txt", "0\n", r"`i.txt` has the shape \(1,\) but there are 2 captions; pass one video index"),
        ("i.csv", "0,2", r"`i.csv\[1\]` is 2 but there are 2 videos; indices go from 0 to 1"),
        ("i.csv", "-1,0", r"`i.csv\[0\]` is -1 but there are 2 videos"),
        ("i.npy", np.array([0.0, 1.0]), r"`i.npy` is of type float64; pass whole numbers"),
        ("i.npy", np.eye(2, dtype=int), r"`i.npy` has the shape \(2, 2\) but there are 2 captions"),
    ],
)
def test_bad_indices_are_refused(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        measure_matrix(write(tmp_path / "s.csv", "1,2\n3,4\n"), write(tmp_path / name, content))


def test_a_matrix_is_needed():
    with pytest.raises(ValueError, match="`scores` is not there; choose a file with a matrix of scores"):
        measure_matrix(None, None)


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_CELLS", 20)
    monkeypatch.setattr(uploads, "MAX_SIDE", 12)
    monkeypatch.setattr(uploads, "MAX_LINES", 3)
    files = {
        "wide.csv": ("1," * 12 + "1", "at least 1 rows of 13; this page takes 20 numbers and 12 rows"),
        "large.csv": ("1,2,3,4,5\n" * 5, "at least 5 rows of 5"),
        "large.npy": (np.ones((5, 5)), "at least 5 rows of 5"),
        "long.npy": (np.ones((13, 1)), "at least 13 rows of 1"),
    }
    for name, (content, message) in files.items():
        path = write(tmp_path / name, content)
        with pytest.raises(ValueError, match=f"`{name}` has {message}"):
            measure_matrix(path, None)
    square = write(tmp_path / "square.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"`i.txt` has at least 13 rows of 1"):
        measure_matrix(square, write(tmp_path / "i.txt", "0 " * 40))
    run = "".join(f"1 Q0 {name} 1 1 t\n\n" for name in "abcd")
    qrels = write(tmp_path / "qrels", QRELS)
    with pytest.raises(ValueError, match=r"`run` has more than 3 lines, the most .* list fewer videos"):
        measure_run(write(tmp_path / "run", run), qrels)
    measure_run(write(tmp_path / "run", run.rsplit("1 Q0", 1)[0]), qrels)


@pytest.mark.parametrize("unit", [b"\0", b"1 Q0 a 1 1 t\n"])
def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(uploads, "MAX_TEXT_BYTES", 1_000_000)
    monkeypatch.setattr(uploads, "add_document", lambda *arguments: None)
    content = gzip.compress(unit * (30_000_000 // len(unit)), compresslevel=1)
    paths = write(tmp_path / "run.gz", content), write(tmp_path / "qrels", QRELS)
    del content
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"`run.gz` has more than 1000000 bytes of text, .* list fewer"):
        measure_run(*paths)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data[:40] + b"xyz" + data[43:], lambda _: b"a"]
)
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    content = damage(gzip.compress(make_run(*make_ties())[0].encode()))
    with pytest.raises(ValueError, match=r"`run.gz` can't be decompressed; write it with gzip again"):
        measure_run(write(tmp_path / "run.gz", content), write(tmp_path / "qrels", QRELS))


def test_what_comes_from_a_file_is_escaped(tmp_path):
    escaped = EVIL.replace("<", "&lt;").replace(">", "&gt;")
    html, numbers = show(measure_matrix)(write(tmp_path / "s.csv", EVIL), None)
    assert (EVIL in html, escaped in html, numbers) == (False, True, "")
    html, numbers = show(measure_matrix)(write(tmp_path / f"{EVIL}.csv", "1"), None)
    assert (EVIL in html, escaped in html, json.loads(numbers)["t2v_R@1"]) == (False, True, 100.0)
    html, _ = show(measure_matrix)(str(tmp_path / "gone.csv"), None)
    assert "No such file" in html


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """`python app.py` in a copy of the folder, without this project; whom it calls outside, we would hear."""
    root = tmp_path_factory.mktemp("space")
    folder = shutil.copytree(FOLDER, root / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    )
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    outside = socket.create_server(("127.0.0.1", 0))
    proxy = f"http://127.0.0.1:{outside.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")}
    environment |= {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(root / "uploads"),
        "PYTHONPATH": str(root / "site"),
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
    }
    log = root / "space.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            wait_for_server(port, process, log)
            yield SimpleNamespace(url=f"http://127.0.0.1:{port}/", folder=folder)
        finally:
            process.terminate()
            process.wait(timeout=LONG_TIME)
    assert "Traceback" not in log.read_text(), log.read_text()
    outside.setblocking(False)
    with outside, pytest.raises(BlockingIOError):
        outside.accept()


def wait_for_server(port, process, log):
    for _ in range(10 * LONG_TIME):
        assert process.poll() is None, log.read_text()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_TIME)
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def browser(space):
    chrome = start_browser(1200, 900)
    yield chrome
    quit_browser(chrome)


@pytest.fixture
def page(browser, space):
    resize(browser, 1200, 900)
    browser.get(space.url)
    wait(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "input[type=file]")) == 2)
    yield browser
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in names if not name.startswith((space.url, "data:", "blob:"))] == []
    assert browser.execute_script("return window.evil") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def wait(chrome, condition):
    return WebDriverWait(chrome, LONG_TIME).until(lambda _: condition())


def find_place(chrome, label):
    """Where a file of that label is put."""
    path = "//label[normalize-space()='{}']/ancestor::div[contains(@class, 'block')][1]"
    return chrome.find_element(By.XPATH, path.format(label))


def put(chrome, label, path):
    """Uploads a file and waits until it is there, instead of the one that was."""
    place = find_place(chrome, label)
    for button in place.find_elements(By.CSS_SELECTOR, "[aria-label=Clear]"):
        button.click()
    field = wait(chrome, lambda: place.find_elements(By.CSS_SELECTOR, "input[type=file]"))[0]
    field.send_keys(path)
    wait(chrome, lambda: place.find_elements(By.CSS_SELECTOR, "a[download]"))


def click(chrome, text):
    buttons = chrome.find_elements(By.TAG_NAME, "button")
    next(button for button in buttons if button.text == text and button.is_displayed()).click()


def read_results(chrome, heading):
    """The table below that heading as {row: [texts]}, and the JSON."""
    selector = ".results p"
    wait(chrome, lambda: [p.text for p in chrome.find_elements(By.CSS_SELECTOR, selector)] == [heading])
    rows = chrome.find_elements(By.CSS_SELECTOR, ".results tbody tr")
    table = {
        row.find_element(By.TAG_NAME, "th").text: [td.text for td in row.find_elements(By.TAG_NAME, "td")]
        for row in rows
    }
    lines = chrome.find_elements(By.CSS_SELECTOR, ".cm-line")
    return table, json.loads("\n".join(line.text for line in lines))


def ask(space, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(space.url.split("/")[2], timeout=LONG_TIME)
    connection.request(method, f"/gradio_api/{path}", body, headers or {})
    return connection.getresponse().status


def test_page_serves_its_examples_and_nothing_else(space):
    assert ask(space, "GET", f"file={space.folder}/examples/scores.csv") == 200
    for path in (f"{space.folder}/app.py", f"{space.folder}/examples/../README.md", "app.py", "/etc/passwd"):
        assert ask(space, "GET", f"file={path}") in (403, 404)


def test_page_takes_no_larger_file(space):
    before, after = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="s.npy"\r\n\r\n',
        b"\r\n--x--\r\n",
    )
    for size, status in ((1_000_000, 200), (220_000_000, 413)):
        body = before + bytes(size) + after
        assert (
            ask(space, "POST", "upload", body, {"Content-Type": "multipart/form-data; boundary=x"}) == status
        )


def test_page_measures_matrices(page, tmp_path):
    scores, labels = make_ties()
    expected = summarize_retrieval(rank_scores(scores, labels))
    put(page, "Scores", write(tmp_path / "scores.npy", scores))
    put(page, "Video of each caption", write(tmp_path / "videos.txt", "\n".join(map(str, labels))))
    click(page, "Measure")
    table, numbers = read_results(page, "scores.npy: 60 captions, 25 videos")
    assert numbers == expected
    assert len(table) == 7
    for row, key in (("R@1, %", "R@1"), ("SumR", "SumR"), ("MdR", "MdR"), ("MnR", "MnR")):
        directions = ("t2v", "v2t", "v2t_caption_pool")
        assert table[row] == [f"{expected[f'{name}_{key}']:.1f}" for name in directions]
    assert table["tied queries"][0] == str(expected["t2v_num_tied_queries"])

    put(page, "Scores", write(tmp_path / "bad.csv", f"1,2\n3,{EVIL}\n"))
    click(page, "Measure")
    message = wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "[role=alert].error"))[0].text
    assert message.startswith(f"`bad.csv` has '{EVIL}' in line 2, column 2; a matrix file holds numbers")
    assert page.find_elements(By.CSS_SELECTOR, ".results") == []

    put(page, "Scores", write(tmp_path / "good.csv", write_table(scores, ",")))
    click(page, "Measure")
    assert read_results(page, "good.csv: 60 captions, 25 videos")[1] == expected
    assert page.find_elements(By.CSS_SELECTOR, ".error") == []


def test_page_measures_a_run(page, tmp_path):
    scores, labels = make_ties(1)
    run, qrels = make_run(scores, labels)
    true_line = f"q0\tQ0  v{labels[0]} "
    lines = [line for line in run.splitlines(keepends=True) if not line.startswith(true_line)]
    expected = summarize_retrieval(rank_scores(scores, labels))
    click(page, "Run file")
    wait(page, lambda: page.find_elements(By.XPATH, "//label[normalize-space()='Qrels']"))
    put(page, "Run", write(tmp_path / "run.gz", gzip.compress("".join(lines).encode())))
    put(page, "Qrels", write(tmp_path / "qrels.txt", qrels))
    click(page, "Measure")
    table, numbers = read_results(page, "run.gz: 60 topics, 1 whose video is not in the run")
    assert (table["MdR"], table["MnR"], "t2v_MdR" in numbers) == (["unknown"], ["unknown"], False)
    assert numbers["t2v_R@10"] == pytest.approx(expected["t2v_R@10"], abs=100 / 60 + 1e-9)
    click(page, "Try an example")
    assert read_results(page, "run.txt: 3 topics, 1 whose video is not in the run")[0]["R@1, %"] == ["33.3"]


def test_page_by_keyboard_on_a_phone(page):
    """Tab to the button that shows an example, on a screen of 390 pixels."""
    resize(page, 390, 844)
    for _ in range(12):
        page.switch_to.active_element.send_keys(Keys.TAB)
        if page.switch_to.active_element.text == "Try an example":
            break
    page.switch_to.active_element.send_keys(Keys.ENTER)
    table, numbers = read_results(page, "scores.csv: 4 captions, 3 videos")
    assert table["R@1, %"] == ["75.0", "100.0", "100.0"]
    assert (numbers["t2v_MnR"], len(numbers)) == (1.25, 21)
    widths = page.execute_script(
        "return [document.documentElement.scrollWidth, document.querySelector('.results table').scrollWidth]"
    )
    assert max(widths) <= 390
