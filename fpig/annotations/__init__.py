"""Annotations in the forms in which data sets of the field are published, and tables of one's own."""

from fpig.annotations.didemo import DIDEMO
from fpig.annotations.msrvtt import MSRVTT_1K, MSRVTT_3K
from fpig.annotations.msvd import MSVD
from fpig.annotations.published import PublishedDataset
from fpig.annotations.v3c import V3C1, V3C2
from fpig.annotations.vatex import VATEX

PUBLISHED: dict[str, PublishedDataset] = {
    dataset.name: dataset for dataset in (MSRVTT_1K, MSRVTT_3K, MSVD, VATEX, DIDEMO, V3C1, V3C2)
}

__all__ = ["PUBLISHED", "PublishedDataset"]
