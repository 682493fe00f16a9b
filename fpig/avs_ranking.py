"""
Ranks the shots of a whole collection for each topic of TRECVID's ad-hoc video search.

Shapes: Q topics, V shots, D numbers in an embedding.
"""

from collections.abc import Sequence

import torch

from fpig.avs_scoring import MAX_SHOTS


def rank_shots(
    topic_embeds: torch.Tensor,
    shot_embeds: torch.Tensor,
    shot_ids: Sequence[str],
    topics: Sequence[str],
    depth: int = MAX_SHOTS,
    shots_per_block: int = 16384,
) -> dict[str, list[tuple[str, float]]]:
    """
    The best shots of each topic by dot product; memory for one block of shots is enough.

    Args:
        topic_embeds: unit vectors [Q, D].
        shot_embeds: unit vectors [V, D], on the same device.
        shot_ids: V names, no two alike.
        topics: Q numbers, no two alike.
        depth: shots for each topic, at most.
        shots_per_block: whose scores are computed together; changes the memory, not the result.

    Returns:
        topic → shots and their scores in single precision, best first; equals, also where the list is cut, by
        name from Z to A, as the official program sorts them.

    Raises:
        ValueError: the shapes don't fit, a name twice, no shots, a limit below 1, or a NaN.
    """
    check_shapes(topic_embeds, shot_embeds, shot_ids, topics)
    for name, value in (("depth", depth), ("shots_per_block", shots_per_block)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1")
    device = topic_embeds.device
    # In this order a shot that comes first wins a tie, and a stable sort keeps it so.
    order = torch.tensor(sorted(range(len(shot_ids)), key=shot_ids.__getitem__, reverse=True), device=device)
    topic_embeds = topic_embeds.detach().double()
    best_scores = torch.empty(len(topics), 0, device=device)
    best_shots = torch.empty(len(topics), 0, dtype=torch.long, device=device)
    for shots in order.split(shots_per_block):
        # A product may round equal shots differently: in double precision by too little to be seen in single.
        scores = (topic_embeds @ shot_embeds[shots].detach().double().T).float()
        if not scores.isfinite().all():
            topic, shot = (~scores.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"`topic_embeds` of {topics[topic]!r:.40} and `shot_embeds` of {shot_ids[shots[shot]]!r:.40} "
                f"have the product {scores[topic, shot]}; it must be finite: embed what is broken again"
            )
        scores = torch.cat([best_scores, scores], dim=1)
        candidates = torch.cat([best_shots, shots.expand(len(topics), -1)], dim=1)
        places = scores.argsort(dim=1, descending=True, stable=True)[:, :depth]
        best_scores, best_shots = scores.gather(1, places), candidates.gather(1, places)
    return {
        topic: [(shot_ids[shot], score) for shot, score in zip(shots, scores, strict=True)]
        for topic, shots, scores in zip(topics, best_shots.tolist(), best_scores.tolist(), strict=True)
    }


def check_shapes(
    topic_embeds: torch.Tensor, shot_embeds: torch.Tensor, shot_ids: Sequence[str], topics: Sequence[str]
) -> None:
    """
    Raises:
        ValueError: no matrices of one width, a name without a row or twice, or no shots.
    """
    if topic_embeds.ndim != 2 or shot_embeds.ndim != 2 or topic_embeds.shape[1] != shot_embeds.shape[1]:
        raise ValueError(
            f"`topic_embeds` has the shape {tuple(topic_embeds.shape)} and `shot_embeds` "
            f"{tuple(shot_embeds.shape)}; they must be [topics, width] and [shots, width]: take both from "
            "the same model"
        )
    if not len(shot_embeds):
        raise ValueError("`shot_embeds` has no rows; there is nothing to rank: embed one shot at least")
    for name, names, embeds in (("shot_ids", shot_ids, shot_embeds), ("topics", topics, topic_embeds)):
        if len(names) != len(embeds):
            raise ValueError(
                f"`{name}` has {len(names)} names for {len(embeds)} embeddings; give one for each"
            )
        if len(set(names)) < len(names):
            known = set()
            twice = next(n for n in names if n in known or known.add(n))
            raise ValueError(f"`{name}` has {twice!r:.40} twice; give each its own name")


__all__ = ["rank_shots"]
