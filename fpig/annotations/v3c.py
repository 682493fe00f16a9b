"""
TRECVID's V3C1 and V3C2, the shots in which ad-hoc video search is tested: 1,082,659 and 1,425,454, without
captions. Their one split is called `test`.

`VideoSets/v3c1.txt` and `VideoSets/v3c2.txt` list them with a shot's id a line, in ROOT or ROOT/annotations;
the folder `VideoSets` may be left out. Shots: ROOT/videos/shot00001_1.mp4, in any subfolder too and with any
suffix of a video, or a folder of pictures ROOT/frames/shot00001_1.

The topics that are searched for and the qrels that say who was right are of a year: `AVS_YEARS` has the names
of their files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fpig.annotations.files import find_file, read_lines, report_missing
from fpig.annotations.published import AnnotatedVideo, PublishedDataset, PublishedSplit

WHERE_FROM = "trecvid.nist.gov (the ids of its master shot reference, one a line)"


@dataclass(frozen=True)
class AvsYear:
    """
    A year of ad-hoc video search.

    Attributes:
        collection: the data set that is searched.
        topic_numbers: what is searched for.
        topics_name: file of the topics' texts.
        qrels_name: file of the judgements.
    """

    collection: str
    topic_numbers: range
    topics_name: str
    qrels_name: str


AVS_YEARS = {
    "tv19": AvsYear("v3c1", range(611, 641), "tv19.avs.txt", "avs.qrels.tv19"),
    "tv20": AvsYear("v3c1", range(641, 661), "tv20.avs.txt", "avs.qrels.tv20"),
    "tv21": AvsYear("v3c1", range(661, 681), "tv21.avs.txt", "avs.qrels.tv21"),
    "tv22": AvsYear("v3c2", range(701, 731), "tv22.avs.txt", "avs.qrels.tv22"),
    "tv23": AvsYear("v3c2", range(731, 751), "tv23.avs.txt", "avs.qrels.tv23"),
}


def read_v3c1(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The shots of V3C1."""
    return read_shots(root, "v3c1.txt")


def read_v3c2(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The shots of V3C2."""
    return read_shots(root, "v3c2.txt")


def read_shots(root: Path, name: str) -> Iterator[AnnotatedVideo]:
    """The shots that a text file lists."""
    path = find_file(root, f"VideoSets/{name}", name)
    if path is None:
        raise report_missing(root, (f"VideoSets/{name}", name), WHERE_FROM)
    for place, shot_id in read_lines(path):
        yield AnnotatedVideo(place, shot_id, ())


def _without_captions(num_shots: int) -> dict[str, PublishedSplit]:
    return {"test": PublishedSplit(num_shots, 0, 0, "ad-hoc video search")}


V3C1 = PublishedDataset("v3c1", _without_captions(1_082_659), WHERE_FROM, read_v3c1)
V3C2 = PublishedDataset("v3c2", _without_captions(1_425_454), WHERE_FROM, read_v3c2)

__all__ = ["AVS_YEARS", "V3C1", "V3C2"]
