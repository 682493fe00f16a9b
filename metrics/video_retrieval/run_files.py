"""
Ranks of true videos in the run of a search engine, which lists its best videos for every topic, not all.

Shapes: Q topics, each with one true video.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RunRanks:
    """
    Ranks, 1 is best, with every tie counted against the engine.

    Attributes:
        t2v: rank of each topic's true video among those that the run lists for it [Q], in the order of the
            qrels; infinite where the run does not have it, so that it counts as missed at every k.
        t2v_ties: other listed videos with exactly the true one's score [Q].
    """

    t2v: np.ndarray
    t2v_ties: np.ndarray


def rank_run(run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, float]]) -> RunRanks:
    """
    Ranks the true videos of a run by score.

    Args:
        run: topic → video → score, higher is more similar. Topics that `qrels` lacks are ignored.
        qrels: topic → video → relevance; above 0 for the one true video.

    Raises:
        ValueError: no topics, a topic with no or several true videos, or topics that the run lacks.
    """
    true_videos = find_true_videos(qrels)
    missing = [topic for topic in true_videos if not run.get(topic)]
    if missing:
        raise ValueError(
            f"`run` lacks {len(missing)} of the {len(true_videos)} topics of the qrels, the first is "
            f"{missing[0]!r:.40}; every topic needs its list: a topic left out would make the numbers better"
        )
    ranks, ties = np.full(len(true_videos), np.inf), np.zeros(len(true_videos), np.int64)
    for query, (topic, video) in enumerate(true_videos.items()):
        if video in run[topic]:
            scores, true_score = np.array(list(run[topic].values())), run[topic][video]
            # The true video is at least itself.
            ranks[query] = np.count_nonzero(scores >= true_score)
            ties[query] = np.count_nonzero(scores == true_score) - 1
    return RunRanks(ranks, ties)


def find_true_videos(qrels: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """
    The one relevant video of each topic.

    Raises:
        ValueError: no topics, or a topic with no or several relevant videos.
    """
    if not qrels:
        raise ValueError("`qrels` is empty; write the true video of each topic: topic 0 document 1")
    true_videos = {}
    for topic, judgements in qrels.items():
        relevant = [video for video, relevance in judgements.items() if relevance > 0]
        if len(relevant) != 1:
            raise ValueError(
                f"`qrels` has {len(relevant)} relevant videos for topic {topic!r:.40}; in text-to-video "
                "retrieval a topic has one: give it the relevance 1 and all others 0"
            )
        true_videos[topic] = relevant[0]
    return true_videos


__all__ = ["RunRanks", "rank_run"]
