"""
Scores of TRECVID's ad-hoc video search: extended inferred average precision, as the official program has it.

What the participants found is pooled, and the pool divided into strata. Of some strata all shots are judged,
of others a sample, which stands for the rest: each of its shots for `pooled / judged`. A shot outside the
pool counts as wrong. An infAP can be above 1: it is divided by 1,000 at most, however many are relevant.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_SHOTS = 1000  # of a topic, that a participant may hand in
CUTOFFS = (10, 100, 1000)
MEANS = ("infAP", *(f"iP{cutoff}" for cutoff in CUTOFFS))
MEASURES = (*MEANS, "inum_rel_ret", "inum_rel", "num_ret")
# The official program's; they keep a stratum without judgements from dividing by zero.
RELEVANT_EPSILON, JUDGED_EPSILON = 1e-5, 3e-5
# Topic 611 of the participants is 1611 in NIST's judgements.
TOPIC_SHIFT = 1000
MISSING_TOPICS = ("raise", "zero", "drop")


class Judgement(NamedTuple):
    """The stratum that a pooled shot is of, and its relevance: above 0 relevant, below 0 not judged."""

    stratum: str
    relevance: int


Run = Mapping[str, Sequence[tuple[str, float]]]  # topic → shots and their scores
Qrels = Mapping[str, Mapping[str, Judgement]]  # topic → pooled shot → judgement


@dataclass(frozen=True)
class AvsResults:
    """
    What a run scores.

    Attributes:
        topics: topic → the `MEASURES`, in the order of the qrels and with their numbers.
        overall: means of infAP and the iPs over `topics`, sums of the others. As in the official program,
            `inum_rel` is summed over all topics of the qrels, missing or not, and `num_ret` is cut at 1,000
            here, but not in a topic.
        missing_topics: those of the qrels that the run has no shots for.
        ignored_topics: those of the run that the qrels lack.
        topic_shift: what was added to the run's topics to find them in the qrels: 0 or 1000.
    """

    topics: dict[str, dict[str, float]]
    overall: dict[str, float]
    missing_topics: list[str]
    ignored_topics: list[str]
    topic_shift: int


def score_run(run: Run, qrels: Qrels, missing_topics: str = "raise") -> AvsResults:
    """
    Scores a run.

    Args:
        run: shots in any order, see `order_shots`. Topics that the qrels lack are ignored. If the qrels have
            none of its topics, but all of them plus 1000, those are meant.
        qrels: of one year's topics.
        missing_topics: what becomes of topics of the qrels without shots in the run. "raise" is an error,
            "zero" scores them 0, "drop" leaves them out of the means, as the official program does.

    Raises:
        ValueError: the run has none of the topics, it lacks some and `missing_topics` is "raise", a topic has
            a shot twice, or a score is NaN.
    """
    run, topic_shift = match_topics({topic: shots for topic, shots in run.items() if shots}, qrels)
    missing = list_missing(run, qrels, missing_topics)
    dropped = set(missing) if missing_topics == "drop" else set()
    topics = {
        topic: score_topic(topic, run.get(topic, ()), judgements)
        for topic, judgements in qrels.items()
        if topic not in dropped
    }
    overall = {name: sum(scores[name] for scores in topics.values()) / len(topics) for name in MEANS}
    overall["inum_rel_ret"] = sum(scores["inum_rel_ret"] for scores in topics.values())
    overall["inum_rel"] = sum(count_relevant(judgements) for judgements in qrels.values())
    overall["num_ret"] = sum(min(scores["num_ret"], MAX_SHOTS) for scores in topics.values())
    ignored = [topic for topic in run if topic not in qrels]
    return AvsResults(topics, overall, missing, ignored, topic_shift)


def match_topics(run: Run, qrels: Qrels) -> tuple[Run, int]:
    """
    The run under the topics of the qrels, and what was added to its own: 0, or 1000 where they have none of
    its topics but all of them plus 1000.

    Raises:
        ValueError: the qrels have none of its topics, and not all of them plus 1000.
    """
    if any(topic in qrels for topic in run):
        return run, 0
    shifted = {str(int(topic) + TOPIC_SHIFT): shots for topic, shots in run.items() if is_number(topic)}
    num_found = sum(topic in qrels for topic in shifted)
    if num_found and num_found == len(run):
        return shifted, TOPIC_SHIFT
    raise ValueError(
        f"`run` has the topics {list_first(list(run))} and the qrels {list_first(list(qrels))}: none in "
        f"common, and {num_found} of the run's {len(run)} with {TOPIC_SHIFT} added, which is done only for "
        "all; take the qrels of the run's topics, and number the topics as they do"
    )


def is_number(topic: str) -> bool:
    """Whether a topic is a number; one of thousands of digits, which Python refuses to convert, is none."""
    return re.fullmatch("[0-9]{1,9}", topic) is not None


def list_missing(run: Iterable[str], qrels: Qrels, missing_topics: str) -> list[str]:
    """
    Topics of the qrels that are not among those of the run, which `match_topics` has numbered alike.

    Raises:
        ValueError: there are some and `missing_topics` is "raise", or it is none of `MISSING_TOPICS`.
    """
    if missing_topics not in MISSING_TOPICS:
        raise ValueError(
            f"`missing_topics` is {missing_topics!r}; it must be one of {', '.join(MISSING_TOPICS)}"
        )
    searched = set(run)
    missing = [topic for topic in qrels if topic not in searched]
    if missing and missing_topics == "raise":
        raise ValueError(
            f"`run` lacks {len(missing)} of the {len(qrels)} topics of the qrels ({list_first(missing)}); "
            "search for them too, or set `missing_topics`: `zero` scores them 0, `drop` leaves them out"
        )
    return missing


def list_first(topics: Sequence[str]) -> str:
    """The first three, for a message."""
    return ", ".join(topics[:3]) + ("…" if len(topics) > 3 else "") or "(no topic)"


def score_topic(
    topic: str, shots: Sequence[tuple[str, float]], judgements: Mapping[str, Judgement]
) -> dict[str, float]:
    """
    The `MEASURES` of one topic; 0 where nothing is relevant or nothing was found.

    Raises:
        ValueError: a shot twice, or a NaN.
    """
    num_relevant = count_relevant(judgements)
    weights = weigh_judged(judgements)
    pooled, judged, relevant = Counter(), Counter(), Counter()
    sum_precisions = 0.0
    found = 0.0  # relevant shots so far, by inference
    found_at = [found]  # after each rank
    for rank, (shot, _) in enumerate(order_shots(topic, shots, MAX_SHOTS), start=1):
        judgement = judgements.get(shot)
        if judgement:
            stratum = judgement.stratum
            if judgement.relevance > 0:
                # The shot itself is relevant for certain; above it, it is inferred how many are.
                sum_precisions += weights[stratum] * (1 + found) / rank
                relevant[stratum] += 1
            pooled[stratum] += 1
            judged[stratum] += judgement.relevance >= 0
            found = sum(
                pooled[name] * (relevant[name] + RELEVANT_EPSILON) / (judged[name] + JUDGED_EPSILON)
                for name in pooled
            )
        found_at.append(found)
    # More than 1,000 can't be handed in.
    scores = {"infAP": sum_precisions / min(num_relevant, MAX_SHOTS) if num_relevant else 0.0}
    for cutoff in CUTOFFS:
        scores[f"iP{cutoff}"] = found_at[min(cutoff, len(found_at) - 1)] / cutoff
    return scores | {"inum_rel_ret": found, "inum_rel": num_relevant, "num_ret": len(shots)}


def weigh_judged(judgements: Mapping[str, Judgement]) -> dict[str, float]:
    """How many pooled shots one judged shot stands for, by stratum; none if none is judged."""
    pooled = Counter(judgement.stratum for judgement in judgements.values())
    judged = Counter(judgement.stratum for judgement in judgements.values() if judgement.relevance >= 0)
    return {stratum: pooled[stratum] / judged[stratum] for stratum in judged}


def count_relevant(judgements: Mapping[str, Judgement]) -> float:
    """Relevant shots of the pool, by inference."""
    relevant = Counter(judgement.stratum for judgement in judgements.values() if judgement.relevance > 0)
    return sum(relevant[stratum] * weight for stratum, weight in weigh_judged(judgements).items())


def order_shots(topic: str, shots: Sequence[tuple[str, float]], depth: int) -> list[tuple[str, float]]:
    """
    The best `depth` shots by score, equals by name from Z to A, as the official program sorts.

    Raises:
        ValueError: a shot twice, or a NaN.
    """
    if len({shot for shot, _ in shots}) < len(shots):
        shot = Counter(shot for shot, _ in shots).most_common(1)[0][0]
        raise ValueError(f"`run` has {shot!r:.40} twice for topic {topic!r:.40}; keep one of the two")
    for shot, score in shots:
        if math.isnan(score):
            raise ValueError(
                f"`run` has the score NaN for {shot!r:.40} in topic {topic!r:.40}; a NaN has no rank: look "
                "for it in the embeddings"
            )
    return sorted(shots, key=lambda pair: (pair[1], pair[0]), reverse=True)[:depth]


__all__ = ["AvsResults", "Judgement", "Qrels", "Run", "list_first", "order_shots", "score_run"]
