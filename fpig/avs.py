"""
Scores a run of TRECVID's ad-hoc video search, and prints what the official program (sample_eval.pl) prints.

    python -m fpig.avs RUN QRELS

Of its measures, infNDCG and the curve of precision over recall are not there.
"""

import argparse
import json
import sys
from pathlib import Path

from fpig.avs_files import read_qrels, read_run
from fpig.avs_scoring import MEASURES, MISSING_TOPICS, TOPIC_SHIFT, AvsResults, list_first, score_run

OUTCOMES = {"zero": "scored 0", "drop": "left out of the means, as the official program does"}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fpig.avs", description="Score a run of TRECVID's ad-hoc video search."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="lines of: topic 0 shot rank score tag")
    parser.add_argument("qrels", metavar="QRELS", type=Path, help="lines of: topic 0 shot stratum judgement")
    parser.add_argument("--json", action="store_true", help="print one JSON object, in full precision")
    parser.add_argument(
        "--missing_topics",
        choices=MISSING_TOPICS,
        default="raise",
        help="topics of QRELS that RUN lacks: an error, scored 0, or left out of the means, as the official "
        "program does (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def describe_topics(results: AvsResults, missing_topics: str) -> list[str]:
    """What happened to topics that the run and the qrels do not share: a line each."""
    notes = []
    if results.topic_shift:
        topic = int(next(topic for topic in results.topics if topic not in results.missing_topics))
        notes.append(
            f"matched: the run's topics plus {TOPIC_SHIFT}, {topic - TOPIC_SHIFT} is taken for {topic}"
        )
    if results.ignored_topics:
        num, first = len(results.ignored_topics), list_first(results.ignored_topics)
        notes.append(f"ignored: the qrels lack {num} of the run's topics ({first})")
    if results.missing_topics:
        num, first = len(results.missing_topics), list_first(results.missing_topics)
        notes.append(
            f"missing: the run lacks {num} of the qrels' topics ({first}), {OUTCOMES[missing_topics]}"
        )
    return notes


def format_table(results: AvsResults) -> str:
    """One line for each topic and one for all, with the official program's four digits."""
    rows = [("topic", *MEASURES)]
    for topic, scores in [*results.topics.items(), ("all", results.overall)]:
        rows.append((topic, *(f"{scores[name]:.4f}" for name in MEASURES[:-1]), str(scores[MEASURES[-1]])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Prints the scores; what is to be known about the topics goes to stderr."""
    options = parse_arguments(arguments)
    try:
        results = score_run(read_run(options.run), read_qrels(options.qrels), options.missing_topics)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    notes = describe_topics(results, options.missing_topics)
    for note in notes:
        sys.stderr.write(f"{note}\n")
    if options.json:
        values = {
            "topics": results.topics,
            "all": results.overall,
            "num_missing_topics": len(results.missing_topics),
            "missing_topics": results.missing_topics,
            "missing_topics_rule": options.missing_topics,
            "ignored_topics": results.ignored_topics,
            "topic_shift": results.topic_shift,
        }
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(format_table(results))
        if options.missing_topics == "drop" and results.missing_topics:
            # Nothing else in the table would say so.
            sys.stdout.write(f"# {notes[-1]}\n")


__all__ = ["describe_topics", "format_table", "main"]

if __name__ == "__main__":
    main()
