"""What there is of a published data set on this disk, split by split, beside what is published."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpig.annotations.published import (
    AnnotatedVideo,
    PublishedDataset,
    PublishedSplit,
    count_of_published,
    describe_deviations,
    describe_range,
    find_leaks,
    hash_captions,
    hash_ids,
    read_split,
)
from fpig.annotations.v3c import AVS_YEARS
from fpig.annotations.videos import (
    EMPTY,
    MISSING,
    explain_folders,
    find_absent,
    find_unreadable,
    locate_videos,
)
from fpig.avs_files import read_year
from fpig.avs_scoring import TOPIC_SHIFT, Qrels, list_first

NUM_LISTED = 10


def check_dataset(
    dataset: PublishedDataset, root: Path, split: str | None = None, with_decoding: bool = True
) -> dict[str, Any]:
    """
    Reads the annotations of a published data set and looks for its videos.

    Args:
        dataset: one of `PUBLISHED`.
        root: its folder.
        split: only this split; all by default.
        with_decoding: also decode the first frame of every video.

    Returns:
        Plain values: `dataset`, `root`, `problems` (messages: annotations that can't be read or differ from
        what is published, several files for one video, no folder for videos) and `splits`, name → counts,
        checksums and the videos that can't be used.

    Raises:
        FileNotFoundError: no such folder, or none of the annotations is in it.
    """
    names = list(dataset.splits) if split is None else [split]
    videos_by_split: dict[str, list[AnnotatedVideo]] = {}
    problems: list[str] = []
    missing: list[FileNotFoundError] = []
    for name in names:
        try:
            videos_by_split[name] = read_split(dataset, root, name)
            problems += describe_deviations(dataset, name, videos_by_split[name])
        except FileNotFoundError as error:
            missing.append(error)
            problems.append(f"split '{name}': {error}")
        except ValueError as error:
            problems.append(f"split '{name}': {error}")
    if len(missing) == len(names):
        raise missing[0]
    problems += find_leaks(videos_by_split)
    if no_folder := explain_folders(root):
        problems.append(no_folder)
    splits = {}
    for name, videos in videos_by_split.items():
        paths, doubled = locate_videos(root, (video.video_id for video in videos))
        problems += doubled
        splits[name] = _check_videos(dataset.splits[name], videos, paths, with_decoding)
    return {
        "dataset": dataset.name,
        "root": str(root),
        "problems": problems,
        "splits": splits,
    }


def _check_videos(
    published: PublishedSplit, videos: list[AnnotatedVideo], paths: Mapping[str, str], with_decoding: bool
) -> dict[str, Any]:
    """The counts of one split."""
    ids = [video.video_id for video in videos]
    reasons = {video_id: MISSING for video_id in ids if video_id not in paths} | find_absent(paths)
    present = {video_id: path for video_id, path in paths.items() if video_id not in reasons}
    unreadable = find_unreadable(present) if with_decoding else {}
    reasons |= unreadable
    num_captions = [len(video.captions) for video in videos]
    num_missing = sum(reason == MISSING for reason in reasons.values())
    return {
        "protocol": published.protocol,
        "num_published": published.num_videos,
        "num_annotated": len(videos),
        "annotated": count_of_published(len(videos), published),
        "num_found": len(videos) - num_missing,
        "num_missing": num_missing,
        "num_empty": sum(reason.startswith(EMPTY) for reason in reasons.values()),
        "num_unreadable": len(unreadable) if with_decoding else None,
        "num_captions": sum(num_captions),
        "min_captions": min(num_captions, default=0),
        "max_captions": max(num_captions, default=0),
        "published_captions": describe_range(published),
        "id_checksum": hash_ids(ids),
        "usable_id_checksum": hash_ids(video_id for video_id in ids if video_id not in reasons),
        "caption_checksum": (
            hash_captions((video.video_id, video.captions) for video in videos) if any(num_captions) else None
        ),
        "unusable": {video_id: reasons[video_id] for video_id in ids if video_id in reasons},
    }


def check_year(year: str, root: Path) -> dict[str, Any]:
    """
    Reads topics and judgements of a year of ad-hoc video search. What of its shots, `check_dataset` says.

    Returns:
        Plain values: `year`, `num_topics`, `num_judged_topics`, `num_judged_shots` (0 where there are no
        judgements) and `problems`.
    """
    numbers = [str(number) for number in AVS_YEARS[year].topic_numbers]
    report = {"year": year, "num_topics": 0, "num_judged_topics": 0, "num_judged_shots": 0}
    try:
        topics, qrels = read_year(year, root)
    except (FileNotFoundError, ValueError) as error:
        return report | {"problems": [f"{year}: {error}"]}
    if qrels is None:
        name = AVS_YEARS[year].qrels_name
        problem = f"{year}: neither `{root}` nor its folder `annotations` has {name}; a run can't be scored"
        return report | {"num_topics": len(topics), "problems": [problem]}
    judged = sum(judgement.relevance >= 0 for topic in qrels.values() for judgement in topic.values())
    return report | {
        "num_topics": len(topics),
        "num_judged_topics": len(qrels),
        "num_judged_shots": judged,
        "problems": _compare_topics(year, numbers, qrels),
    }


def _compare_topics(year: str, numbers: list[str], qrels: Qrels) -> list[str]:
    """Messages on topics without judgements and on judgements of others. NIST's numbers are 1000 higher."""
    shifted = [str(int(number) + TOPIC_SHIFT) for number in numbers]
    expected = shifted if any(topic in qrels for topic in shifted) else numbers
    missing = [topic for topic in expected if topic not in qrels]
    other = [topic for topic in qrels if topic not in expected]
    name = AVS_YEARS[year].qrels_name
    problems = []
    if missing:
        problems.append(
            f"`{name}` lacks {len(missing)} of the {len(expected)} topics of {year} ({list_first(missing)}); "
            "get it again"
        )
    if other:
        problems.append(
            f"`{name}` has {len(other)} topics that {year} has not ({list_first(other)}); get it again"
        )
    return problems


def is_fine(report: Mapping[str, Any], on_missing: str) -> bool:
    """Whether the annotations are as published, and, with "raise", all videos can be used."""
    has_all = not any(counts["unusable"] for counts in report["splits"].values())
    return not report["problems"] and (has_all or on_missing == "skip")


def format_report(report: Mapping[str, Any]) -> str:
    """The report of `check_dataset` as a table with a column for each split, and what is wrong under it."""
    rows = [("", *report["splits"])]
    counts = list(report["splits"].values())
    for title, write in {
        "protocol": lambda split: split["protocol"],
        "videos published": lambda split: f"{split['num_published']:,}",
        "videos annotated": lambda split: split["annotated"],
        "videos found": lambda split: f"{split['num_found']:,}",
        "videos missing": lambda split: f"{split['num_missing']:,}",
        "videos empty": lambda split: f"{split['num_empty']:,}",
        "videos unreadable": lambda split: (
            "not tried" if split["num_unreadable"] is None else f"{split['num_unreadable']:,}"
        ),
        "captions": lambda split: f"{split['num_captions']:,}",
        "captions a video": lambda split: (
            f"{split['min_captions']} to {split['max_captions']}"
            if split["min_captions"] < split["max_captions"]
            else f"{split['min_captions']}"
        ),
        "  published": lambda split: split["published_captions"],
        "checksum of ids": lambda split: split["id_checksum"],
        "  of usable ids": lambda split: split["usable_id_checksum"],
        "checksum of captions": lambda split: split["caption_checksum"] or "none",
    }.items():
        rows.append((title, *(write(split) for split in counts)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{report['dataset']} in {report['root']}", ""]
    for title, *cells in rows:
        cells = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([title.ljust(widths[0]), *cells]).rstrip())
    if year := report.get("year"):
        lines += [
            "",
            f"{year['year']}: {year['num_topics']} topics, {year['num_judged_topics']} with judgements of "
            f"{year['num_judged_shots']:,} shots",
        ]
    for split, values in report["splits"].items():
        if unusable := values["unusable"]:
            lines += ["", f"Can't be used of split '{split}': {len(unusable):,}"]
            lines += [f"  {video_id}  {reason}" for video_id, reason in list(unusable.items())[:NUM_LISTED]]
            if len(unusable) > NUM_LISTED:
                lines.append(f"  … and {len(unusable) - NUM_LISTED:,} more; `--list FILE` writes all")
    if report["problems"]:
        lines += ["", "Not as published:", *(f"  {problem}" for problem in report["problems"])]
    return "\n".join(lines)


def list_unusable(report: Mapping[str, Any]) -> str:
    """All videos that can't be used, a line `split id reason` each, with tabs between."""
    return "".join(
        f"{split}\t{video_id}\t{reason}\n"
        for split, counts in report["splits"].items()
        for video_id, reason in counts["unusable"].items()
    )


__all__ = ["check_dataset", "check_year", "format_report", "is_fine", "list_unusable"]
