"""Text-to-video and video-to-text retrieval as a metric of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np

from .ranking import check_indices, rank_scores, summarize_retrieval

_DESCRIPTION = """
Recall at 1, 5 and 10, their sum, median and mean rank of text-to-video and video-to-text retrieval, with any
number of captions per video. Ties count against the model.
"""

_CITATION = """
@inproceedings{fpig2025,
    title = {Hybrid-Tower: Fine-grained Pseudo-query Interaction and Generation for Text-to-Video Retrieval},
    booktitle = {ICCV},
    year = {2025},
    url = {https://arxiv.org/abs/2509.04773}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one row per caption with its scores for all videos; higher is more similar.
    references: for each caption, the index of its video, from 0.

Returns:
    `t2v_R@1`, `t2v_R@5`, `t2v_R@10` and `t2v_SumR` in percent, `t2v_MdR` and `t2v_MnR` in ranks from 1,
    `t2v_num_tied_queries`; the same with `v2t_` (a video's score for a query video is the highest over its
    captions) and with `v2t_caption_pool_` (rank of the best true caption among all captions).

Examples:

    >>> import evaluate
    >>> metric = evaluate.load("metrics/video_retrieval")
    >>> scores = [[0.9, 0.2, 0.1], [0.3, 0.8, 0.1], [0.2, 0.7, 0.4]]
    >>> results = metric.compute(predictions=scores, references=[0, 1, 2])
    >>> round(results["t2v_R@1"], 1), results["t2v_MdR"], results["v2t_R@1"]
    (66.7, 1.0, 100.0)
"""


class VideoRetrieval(evaluate.Metric):
    """The `evaluate` shell of `rank_scores`; a large evaluation calls `rank_embeddings` instead."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            # Not float32: rounding would make ties of different scores.
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2509.04773"],
        )

    def _compute(self, predictions: list[Any], references: list[int]) -> dict[str, float]:
        """
        Raises:
            ValueError: no rows, rows of different lengths, an index that is no video's, or a NaN.
        """
        if not predictions or not predictions[0]:
            raise ValueError("`predictions` is empty; pass one row of scores per caption")
        num_videos = len(predictions[0])
        for index, row in enumerate(predictions):
            if len(row) != num_videos:
                raise ValueError(
                    f"`predictions[{index}]` has {len(row)} scores but `predictions[0]` has {num_videos}; "
                    "every caption needs a score for every video"
                )
        indices = check_indices(np.array(references), len(predictions), num_videos, name="references")
        return summarize_retrieval(rank_scores(np.array(predictions, np.float64), indices))
