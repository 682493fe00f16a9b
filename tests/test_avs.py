"""Scores of ad-hoc video search against the official program's and a slow definition; files; the command."""

import gzip
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fpig.avs import format_table
from fpig.avs_files import read_qrels, read_run, read_topics, write_run
from fpig.avs_ranking import rank_shots
from fpig.avs_scoring import MEANS, MEASURES, Judgement, order_shots, score_run

FOLDER = Path(__file__).parent / "data" / "avs"
CASES = ("small", "over1000", "edges", "tv21")
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def find_file(case: str, kind: str) -> Path:
    return FOLDER / (f"{case}.{kind}.txt" if case == "small" else f"{case}.{kind}.txt.gz")


def read_case(case: str) -> tuple[dict, dict]:
    return read_run(find_file(case, "run")), read_qrels(find_file(case, "qrels"))


def read_official(case: str) -> list[list[str]]:
    """The rows of our table, out of the lines `measure topic value` of the official print."""
    values = {}
    for line in (FOLDER / f"{case}.sample_eval.txt").read_text().splitlines():
        measure, topic, value = line.split()
        values.setdefault(topic, {})[measure] = value
    return [["topic", *MEASURES]] + [[topic, *(v[name] for name in MEASURES)] for topic, v in values.items()]


def read_table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def run_avs(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fpig.avs", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def score_slowly(shots: list[tuple[str, float]], judgements: dict[str, Judgement]) -> dict[str, float]:
    """The definition, word by word: everything above a shot is counted anew for each shot."""
    strata = sorted({judgement.stratum for judgement in judgements.values()})

    def count(names, stratum, lowest) -> int:
        found = [judgements[name] for name in names if name in judgements]
        return len([j for j in found if j.stratum == stratum and j.relevance >= lowest])

    def count_above(names) -> float:
        return sum(
            count(names, s, -9) * (count(names, s, 1) + 0.00001) / (count(names, s, 0) + 0.00003)
            for s in strata
        )

    estimates = {}
    for s in strata:
        if count(judgements, s, 0):
            estimates[s] = count(judgements, s, 1) * count(judgements, s, -9) / count(judgements, s, 0)
    total = sum(estimates.values())
    # Two stable sorts instead of one with two keys.
    names = [name for name, _ in sorted(sorted(shots, reverse=True), key=lambda pair: -pair[1])][:1000]
    infap = 0.0
    for s in strata:
        precisions = []
        for k, name in enumerate(names, start=1):
            above = names[: k - 1]
            if name in judgements and judgements[name].relevance > 0 and judgements[name].stratum == s:
                num_pooled = len([other for other in above if other in judgements])
                shares = 0.0
                for other in strata if num_pooled else ():
                    share = count(above, other, -9) / num_pooled
                    shares += share * (count(above, other, 1) + 0.00001) / (count(above, other, 0) + 0.00003)
                precisions.append(1 / k + num_pooled / k * shares)
        if precisions:
            infap += estimates[s] / total * sum(precisions) / count(judgements, s, 1)
    infap *= max(total / 1000, 1)
    return {
        "infAP": infap,
        **{f"iP{k}": count_above(names[:k]) / k for k in (10, 100, 1000)},
        "inum_rel_ret": count_above(names),
        "inum_rel": total,
        "num_ret": len(shots),
    }


def make_topic(seed: int) -> tuple[list[tuple[str, float]], dict[str, Judgement]]:
    """A run's shots and judgements, with ties; some with a stratum that nobody judged, some with R > 1000."""
    generator = np.random.default_rng(seed)
    names = [f"shot{number}" for number in generator.permutation(160)]
    judged_share = {"1": 1.0, "2": 1.0 if seed % 3 else 0.0, "3": 0.4}
    judgements = {}
    for name in names[:120]:
        stratum = str(generator.choice(["1", "2", "3"], p=[0.2, 0.3, 0.5]))
        is_judged = generator.random() < judged_share[stratum]
        judgements[name] = Judgement(stratum, int(generator.integers(0, 3)) if is_judged else -1)
    if seed % 4 == 0:
        judgements |= {f"pooled{number}": Judgement("3", -1) for number in range(4000)}
    run = generator.choice(names, generator.integers(1, 130), replace=False)
    return [(str(name), float(generator.choice([-1.5, 0.0, 0.25, 2.0]))) for name in run], judgements


@pytest.mark.parametrize("case", CASES)
def test_what_the_official_program_prints(case):
    run, qrels = read_case(case)
    assert read_table(format_table(score_run(run, qrels, "drop"))) == read_official(case)


@pytest.mark.parametrize("case", CASES)
def test_twelve_digits_of_the_official_program(case):
    run, qrels = read_case(case)
    results = score_run(run, qrels, "drop")
    for topic, expected in EXPECTED[case].items():
        scores = results.overall if topic == "all" else results.topics[topic]
        assert scores == pytest.approx(expected, rel=0, abs=1e-9), topic
    assert len(EXPECTED[case]) == len(results.topics) + 1


@pytest.mark.parametrize("seed", range(24))
def test_scores_are_the_definition(seed):
    shots, judgements = make_topic(seed)
    scores = score_run({"1": shots}, {"1": judgements}).topics["1"]
    assert scores == pytest.approx(score_slowly(shots, judgements), rel=1e-12, abs=1e-12)


def test_the_data_of_the_tests_above_has_what_they_are_for():
    topics = [make_topic(seed) for seed in range(24)]
    totals = [score_slowly(*topic)["inum_rel"] for topic in topics]
    assert min(totals) < 1000 < max(totals)
    assert any({j.relevance for j in judged.values() if j.stratum == "2"} == {-1} for _, judged in topics)
    run, qrels = read_case("edges")
    scores = [score for _, score in order_shots("1701", run["1701"], 2000)]
    assert len(scores) > 1000
    assert scores[999] == scores[1000], "no tie where the list is cut"
    assert EXPECTED["edges"]["1701"]["inum_rel"] > 1000
    assert {judgement.relevance for judgement in qrels["1702"].values() if judgement.stratum == "3"} == {-1}


def test_missing_topics():
    run, qrels = read_case("small")
    with pytest.raises(
        ValueError, match=r"`run` lacks 1 of the 4 topics of the qrels \(1604\); search for them"
    ):
        score_run(run, qrels)
    zero, drop = score_run(run, qrels, "zero"), score_run(run, qrels, "drop")
    for name in MEANS:
        assert zero.overall[name] == pytest.approx(drop.overall[name] * 3 / 4, rel=1e-12)
        assert zero.topics["1604"][name] == 0
    assert zero.overall["inum_rel"] == drop.overall["inum_rel"]
    assert (zero.missing_topics, drop.missing_topics) == (["1604"], ["1604"])
    assert list(drop.topics) == ["1601", "1602", "1603"]
    assert drop.ignored_topics == ["1999"]
    assert score_run(run | {"1604": []}, qrels, "zero").missing_topics == ["1604"]
    with pytest.raises(ValueError, match="`missing_topics` is 'skip'; it must be one of raise, zero, drop"):
        score_run(run, qrels, "skip")


def test_topics_of_the_participants_are_found_in_nists_judgements():
    run, qrels = read_case("edges")
    own = {str(int(topic) - 1000): shots for topic, shots in run.items()}
    results = score_run(own, qrels)
    assert results.topic_shift == 1000
    assert results.topics == score_run(run, qrels).topics
    assert score_run(run, qrels).topic_shift == 0
    assert score_run({"701": own["701"]}, qrels, "zero").missing_topics == ["1702", "1703", "1704"]
    with pytest.raises(ValueError, match="`run` has the topics 9999.* and the qrels 1701.*: none in common"):
        score_run({"9" * 5000: own["701"]}, qrels)
    # As soon as a topic of the run is one of the qrels, topics mean what they say.
    results = score_run({"701": own["701"], "1702": run["1702"]}, qrels, "zero")
    assert (results.topic_shift, results.ignored_topics) == (0, ["701"])
    for topics, num_found in (
        (["701", "799"], 1),
        (["799"], 0),
        (["2701"], 0),
        (["tv"], 0),
        (["701", "0701"], 1),
    ):
        with pytest.raises(
            ValueError, match=f"none in common, and {num_found} of the run's {len(topics)} with"
        ):
            score_run(dict.fromkeys(topics, own["701"]), qrels, "zero")
    with pytest.raises(
        ValueError, match=r"`run` has the topics \(no topic\) and the qrels 1701, 1702, 1703…: none"
    ):
        score_run({"1701": []}, qrels, "drop")


def test_runs_made_in_python_are_checked():
    qrels = {"1": {"a": Judgement("1", 1)}}
    with pytest.raises(ValueError, match="`run` has 'a' twice for topic '1'; keep one"):
        score_run({"1": [("b", 1.0), ("a", 0.5), ("a", 0.1)]}, qrels)
    with pytest.raises(ValueError, match="`run` has the score NaN for 'b' in topic '1'; a NaN has no rank"):
        score_run({"1": [("a", 1.0), ("b", math.nan)]}, qrels)


def test_a_year_is_scored_at_once():
    generator = np.random.default_rng(0)
    run, qrels = {}, {}
    for topic in map(str, range(20)):
        names = [f"shot{number}" for number in generator.permutation(6000)]
        qrels[topic] = {name: Judgement(str(i % 3), i % 4 - 1) for i, name in enumerate(names)}
        run[topic] = [
            (name, float(score)) for name, score in zip(names, generator.random(1000), strict=False)
        ]
    start = time.process_time()
    score_run(run, qrels)
    assert time.process_time() - start < 1


def test_topics_are_read(tmp_path):
    path = tmp_path / "tv23.avs.txt"
    path.write_bytes(b"731  A man is seen with a  baby \r\n\r\n732\tA woman\n0611 a drone flying")
    topics = read_topics(path)
    assert list(topics.items()) == [
        ("731", "A man is seen with a baby"),
        ("732", "A woman"),
        ("0611", "a drone flying"),
    ]


def test_lines_with_any_blanks_and_line_ends(tmp_path):
    path = tmp_path / "avs.qrels.tv23"
    path.write_bytes(b"\xef\xbb\xbf1731 0 a 2 0\r\n1731  0\tb     3  -1 \n\n1732 0 a 1 1\n")
    assert read_qrels(path) == {
        "1731": {"a": Judgement("2", 0), "b": Judgement("3", -1)},
        "1732": {"a": Judgement("1", 1)},
    }
    path.write_bytes(b"1731 0 a 7 -1e-3  t\r\n1731\t0 b 1 2.5 t\r1732 Q0 a 1 -inf t")
    assert read_run(str(path)) == {"1731": [("a", -0.001), ("b", 2.5)], "1732": [("a", -math.inf)]}


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (
            read_topics,
            "611 a\nb a drone",
            "`file` has 'b a drone' in line 2; a line is a topic's number and its",
        ),
        (
            read_topics,
            "611 ",
            "`file` has '611' in line 1; a line is a topic's number and its text: write 611 a",
        ),
        (read_topics, "611 a\n\n611 b", "`file` has topic 611 again in line 3; give each its own number"),
        (read_topics, "\n \n", "`file` is empty; it must have one line at least"),
        (read_qrels, "", "`file` is empty; it must have one line at least"),
        (
            read_qrels,
            "1 0 a 1 1\n1 0 b 1",
            "`file` has 4 columns in line 2, '1 0 b 1'; there must be 5: topic 0 shot",
        ),
        (
            read_qrels,
            "1 0 a 1 0.5",
            "`file` has the judgement '0.5' in line 1; it must be a whole number: write 1",
        ),
        (read_qrels, "1 0 a 1 ok", "`file` has the judgement 'ok' in line 1; it must be a whole number"),
        (
            read_qrels,
            "1 0 a 1 1\n1 0 a 2 0",
            "`file` has 'a' again for topic 1 in line 2; a topic has a shot once",
        ),
        (read_run, "", "`file` is empty; it must have one line at least"),
        (
            read_run,
            "1 0 a 1 1",
            "`file` has 5 columns in line 1, '1 0 a 1 1'; there must be 6: topic 0 shot rank",
        ),
        (
            read_run,
            "1 0 a 1 x t",
            "`file` has the score 'x' in line 1; it must be a number and not NaN: write a",
        ),
        (read_run, "1 0 a 1 nan t", "`file` has the score 'nan' in line 1; it must be a number and not NaN"),
        (read_run, "1 0 a 1 1_000 t", "`file` has the score '1_000' in line 1; it must be a number"),
        (
            read_run,
            "1 0 a 1 2 t\n1 0 a 2 1 t",
            "`file` has 'a' again for topic 1 in line 2; .* remove one of the",
        ),
        (
            read_run,
            "1 0 \xff 1 2 t",
            "`file` is no text in UTF-8; write it so, or let the name of a compressed",
        ),
    ],
)
def test_damaged_files_are_named(read, content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read(path)


def test_damaged_compressed_files_are_named(tmp_path):
    path, whole = tmp_path / "run.gz", gzip.compress(b"".join(b"1 0 a%d 1 2 t\n" % i for i in range(99)))
    broken = whole[:12] + bytes([whole[12] ^ 255]) + whole[13:]
    for content in (b"1 0 a 1 2 t\n", whole[:-12], broken):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"`run.gz` can't be decompressed; write it with gzip again"):
            read_run(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"`{missing}` is no file; pass the path of one"):
            read_run(missing)


@pytest.mark.parametrize("name", ["run.txt", "run.txt.gz"])
def test_written_runs_keep_scores_ties_and_order(name, tmp_path):
    path = tmp_path / name
    score = np.float32(0.3)
    shots = [
        ("a", 0.1 + 0.2),
        ("b", 0.3),
        ("z", 0.3),
        ("c", float(score)),
        ("d", np.nextafter(score, np.float32(0))),
    ]
    path.write_text("an old one")
    write_run(path, {"611": shots, "612": [("a", 1)]}, run_id="mine", depth=4)
    assert read_run(path) == {"611": order_shots("611", shots, 4), "612": [("a", 1.0)]}
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = text.splitlines()
    assert lines[0] == "611 0 c 1 0.30000001192092896 mine"
    assert [line.split()[2:4] for line in lines] == [
        ["c", "1"],
        ["a", "2"],
        ["z", "3"],
        ["b", "4"],
        ["a", "1"],
    ]
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_run_has_a_thousand_shots_at_most(tmp_path):
    write_run(tmp_path / "run", {"611": [(f"shot{number}", number) for number in range(1234)]})
    shots = read_run(tmp_path / "run")["611"]
    assert (len(shots), shots[0], shots[-1]) == (1000, ("shot1233", 1233.0), ("shot234", 234.0))
    assert (tmp_path / "run").read_text().splitlines()[0].split()[-1] == "fpig"


@pytest.mark.parametrize(
    ("run", "fields", "message"),
    [
        ({}, {}, "`run` has no topics; search for one at least"),
        ({"611": []}, {}, "`run` has no shots for topic 611; a topic in a run has one at least"),
        ({"611": [("a", 1.0)]}, {"depth": 0}, "`depth` is 0; it must be at least 1"),
        ({"611": [("a", 1.0)]}, {"run_id": "my run"}, "`run_id` has 'my run'; a column of a run is one word"),
        (
            {"611": [("a b", 1.0)]},
            {},
            "`run` has 'a b'; a column of a run is one word: write it without blanks",
        ),
        ({"6 1": [("a", 1.0)]}, {}, "`run` has '6 1'; a column"),
        ({"611": [("", 1.0)]}, {}, "`run` has ''; a column"),
        ({"611": [("a\n", 1.0)]}, {}, r"`run` has 'a\\n'; a column"),
        ({"611": [("a", 1.0), ("a", 2.0)]}, {}, "`run` has 'a' twice for topic '611'; keep one of the two"),
        ({"611": [("a", math.nan)]}, {}, "`run` has the score NaN for 'a' in topic '611'; a NaN has no rank"),
    ],
)
def test_what_is_no_run_is_not_written(run, fields, message, tmp_path):
    path = tmp_path / "run"
    path.write_text("an old one")
    with pytest.raises(ValueError, match=message):
        write_run(path, run, **fields)
    assert path.read_text() == "an old one"


def test_a_stopped_writer_leaves_the_old_run(tmp_path, monkeypatch):
    path = tmp_path / "run"
    path.write_text("an old one")

    def stop(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_run(path, {"611": [("a", 1.0)]})
    assert path.read_text() == "an old one"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shots_are_ranked_block_by_block(dtype):
    generator = torch.Generator().manual_seed(0)
    different = torch.randn(40, 48, generator=generator).to(dtype)
    # Each embedding several times, under names in no order.
    shot_embeds = different[torch.randint(0, 40, (300,), generator=generator)]
    shot_ids = [f"shot{number}_{number % 7}" for number in torch.randperm(300, generator=generator).tolist()]
    topic_embeds = torch.randn(3, 48, generator=generator).to(dtype)
    expected, num_cut_ties = {}, 0
    for topic, embed in zip(["611", "612", "613"], topic_embeds.double(), strict=True):
        scores = (shot_embeds.double() * embed).sum(dim=1).float().tolist()
        ordered = order_shots(topic, list(zip(shot_ids, scores, strict=True)), 300)
        expected[topic] = ordered[:100]
        num_cut_ties += ordered[99][1] == ordered[100][1]
    assert num_cut_ties, "no tie where the list is cut"
    for shots_per_block in (1, 7, 64, 299, 300, 16384):
        ranked = rank_shots(topic_embeds, shot_embeds, shot_ids, list(expected), 100, shots_per_block)
        assert ranked == expected, shots_per_block
    assert [
        len(shots) for shots in rank_shots(topic_embeds, shot_embeds, shot_ids, ["1", "2", "3"]).values()
    ] == [300] * 3


def test_ranked_shots_are_written_and_scored_as_they_are(tmp_path):
    shot_embeds = torch.eye(4).repeat(3, 1)
    run = rank_shots(
        torch.eye(4)[:2], shot_embeds, [f"shot{number}" for number in range(12)], ["611", "612"], 5
    )
    assert run["611"][:4] == [("shot8", 1.0), ("shot4", 1.0), ("shot0", 1.0), ("shot9", 0.0)]
    write_run(tmp_path / "run", run)
    assert read_run(tmp_path / "run") == run
    qrels = {"1611": {"shot8": Judgement("1", 1)}, "1612": {"shot5": Judgement("1", 1)}}
    assert score_run(run, qrels).overall["infAP"] == pytest.approx(0.75)


def test_what_cannot_be_ranked_is_named():
    topics, shots, names = torch.ones(1, 3), torch.ones(2, 3), ["a", "b"]
    broken = torch.tensor([[0, 0, 0], [0, math.nan, 0]])
    for arguments, message in (
        (
            (topics[:, :2], shots, names, ["611"]),
            r"`topic_embeds` has the shape \(1, 2\) and `shot_embeds` \(2, 3\)",
        ),
        (
            (topics[0], shots, names, ["611"]),
            r"`topic_embeds` has the shape \(3,\) .* must be \[topics, width\]",
        ),
        ((topics, shots[:0], [], ["611"]), "`shot_embeds` has no rows; there is nothing to rank"),
        ((topics, shots, ["a"], ["611"]), "`shot_ids` has 1 names for 2 embeddings; give one for each"),
        ((topics, shots, names, ["611", "612"]), "`topics` has 2 names for 1 embeddings; give one for each"),
        ((topics, shots, ["a", "a"], ["611"]), "`shot_ids` has 'a' twice; give each its own name"),
        ((topics, shots, names, ["611"], 0), "`depth` is 0; it must be at least 1"),
        ((topics, shots, names, ["611"], 9, 0), "`shots_per_block` is 0; it must be at least 1"),
        (
            (topics, broken, names, ["611"]),
            "`topic_embeds` of '611' and `shot_embeds` of 'b' have the product nan",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            rank_shots(*arguments)


def test_command_prints_what_the_official_program_prints(tmp_path):
    for kind in ("run", "qrels"):
        (tmp_path / f"{kind}.gz").write_bytes(gzip.compress(find_file("small", kind).read_bytes()))
    plain = (find_file("small", "run"), find_file("small", "qrels"))
    for files in (plain, ("run.gz", "qrels.gz")):
        done = run_avs(*files, "--missing_topics", "drop", cwd=tmp_path)
        assert done.returncode == 0
        assert read_table(done.stdout) == read_official("small")
        # Whoever passes the table on passes this on, too.
        note = "missing: the run lacks 1 of the qrels' topics (1604), left out of the means, as the official"
        assert done.stdout.splitlines()[-1] == f"# {note} program does"
        assert done.stderr.splitlines() == [
            "ignored: the qrels lack 1 of the run's topics (1999)",
            f"{note} program does",
        ]


def test_command_counts_missing_topics_as_nothing(tmp_path):
    done = run_avs(
        find_file("small", "run"), find_file("small", "qrels"), "--missing_topics", "zero", cwd=tmp_path
    )
    assert done.stderr.splitlines()[-1] == "missing: the run lacks 1 of the qrels' topics (1604), scored 0"
    assert read_table(done.stdout)[-2:] == [
        ["1604", "0.0000", "0.0000", "0.0000", "0.0000", "0.0000", "11.2000", "0"],
        ["all", "0.2857", "0.3750", "0.0967", "0.0097", "38.6665", "50.1789", "120"],
    ]


def test_command_prints_json_in_full(tmp_path):
    run, qrels = read_case("edges")
    write_run(tmp_path / "run", {str(int(topic) - 1000): shots for topic, shots in run.items()}, depth=2000)
    done = run_avs("run", find_file("edges", "qrels"), "--json", cwd=tmp_path)
    results = score_run(run, qrels)
    assert done.stderr == "matched: the run's topics plus 1000, 701 is taken for 1701\n"
    assert json.loads(done.stdout) == {
        "topics": results.topics,
        "all": results.overall,
        "num_missing_topics": 0,
        "missing_topics": [],
        "missing_topics_rule": "raise",
        "ignored_topics": [],
        "topic_shift": 1000,
    }


def test_command_names_a_topic_of_the_run_for_the_shift(tmp_path):
    run, _ = read_case("edges")
    write_run(tmp_path / "run", {"702": run["1702"]})
    done = run_avs("run", find_file("edges", "qrels"), "--missing_topics", "zero", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == "matched: the run's topics plus 1000, 702 is taken for 1702"


def test_digits_of_other_scripts_are_no_score(tmp_path):
    (tmp_path / "run").write_text("1 0 a 1 \u0663 t\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`run` has the score '\u0663' in line 1; it must be a number"):
        read_run(tmp_path / "run")


def test_command_ends_in_one_line_on_bad_input(tmp_path):
    (tmp_path / "bad").write_text("1601 0 a 1 high t\n")
    qrels = find_file("small", "qrels")
    for arguments, message in (
        (("bad", qrels), "error: `bad` has the score 'high' in line 1"),
        (("none", qrels), "error: `none` is no file"),
        ((find_file("small", "run"), qrels), "error: `run` lacks 1 of the 4 topics"),
    ):
        done = run_avs(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(message)


def test_help_is_quick(tmp_path):
    start = time.monotonic()
    done = run_avs("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--missing_topics" in done.stdout
    assert time.monotonic() - start < 3
    command = [
        sys.executable,
        "-c",
        "import sys, fpig.avs; print({'torch', 'transformers'} & set(sys.modules))",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
