"""
Looks what there is of a published data set on this disk; no model is needed.

    python -m fpig.annotations check msrvtt1k data/msrvtt
    python -m fpig.annotations check tv21 data/v3c1         # V3C1 with the topics and judgements of 2021
"""

import argparse
import json
import sys
from pathlib import Path

from fpig.annotations import PUBLISHED
from fpig.annotations.check import check_dataset, check_year, format_report, is_fine, list_unusable
from fpig.annotations.published import check_split_name
from fpig.annotations.v3c import AVS_YEARS
from fpig.annotations.videos import ON_MISSING

NAMES = (*PUBLISHED, *AVS_YEARS)
EXIT_STATUS = (
    "Ends with 0 if annotations and videos are as published; with --on_missing skip also if videos alone are "
    "missing or unreadable; else with 1."
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fpig.annotations", description="Published data sets on this disk."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="count annotations and videos, and compare them with what is published",
        epilog=f"{EXIT_STATUS} What has to lie where in ROOT, the module of the data set says.",
    )
    check.add_argument("name", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    check.add_argument(
        "root",
        metavar="ROOT",
        nargs="?",
        type=Path,
        help="folder of the data set (default: data/NAME; of tv19 … tv23 the one of their collection)",
    )
    check.add_argument("--split", help="only this one (default: all)")
    check.add_argument(
        "--on_missing", choices=ON_MISSING, default="raise", help="skip: missing videos are no failure"
    )
    check.add_argument("--no_decode", action="store_true", help="don't decode a frame of every video")
    check.add_argument("--json", action="store_true", help="print the report as JSON, with all videos listed")
    check.add_argument(
        "--list", metavar="FILE", type=Path, help="write there all videos that can't be used, and why"
    )
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> bool:
    """
    Prints the report, and writes the list where one is asked for; whether all is fine.

    Raises:
        OSError: no such folder, none of the annotations is in it, or the list can't be written.
        ValueError: no such data set or split.
    """
    if options.name not in NAMES:
        raise ValueError(f"`NAME` is '{options.name}' but must be one of {', '.join(NAMES)}")
    is_year = options.name in AVS_YEARS
    dataset = PUBLISHED[AVS_YEARS[options.name].collection if is_year else options.name]
    if options.split is not None:
        check_split_name(dataset, options.split)
    root = Path("data", dataset.name) if options.root is None else options.root.expanduser()
    if options.list is not None and not options.list.parent.is_dir():
        raise ValueError(f"`--list` is {options.list} but there is no such folder; make it")
    report = check_dataset(dataset, root, options.split, not options.no_decode)
    if is_year:
        report["year"] = check_year(options.name, root)
        report["problems"] += report["year"].pop("problems")
    fine = is_fine(report, options.on_missing)
    if options.list is not None:
        options.list.write_text(list_unusable(report), encoding="utf-8", errors="surrogateescape")
    text = json.dumps(report | {"is_fine": fine}, indent=2) if options.json else format_report(report)
    sys.stdout.write(f"{text}\n")
    return fine


def main(arguments: list[str] | None = None) -> None:
    """Bad arguments end in one line on stderr; all else is a bug and keeps its traceback."""
    options = parse_arguments(arguments)
    try:
        fine = check(options)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    if not fine:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
