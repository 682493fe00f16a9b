"""The losses and their gradients by hand on small numbers; `test_reference.py` has their formula."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from modeling_fpig.loss_fpig import contrastive_loss, generation_loss


def make_embeds(seed: int, rows: int = 4) -> torch.Tensor:
    features = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    return normalize(features, dim=-1).requires_grad_()


def test_contrastive_loss_is_the_sum_of_both_directions():
    """Two pairs with cosines 1 and 0: each direction costs ln(1 + e^-s)."""
    embeds = torch.eye(2)
    loss = contrastive_loss(embeds, embeds, torch.tensor(2.0).log())
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-2)), abs=1e-6)


def test_contrastive_loss_sees_both_directions():
    """Captions that agree on one video: each video finds its caption as well as any, captions don't."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    videos = torch.eye(2)
    by_caption = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    loss = contrastive_loss(texts, videos, torch.tensor(0.0))
    assert loss.item() == pytest.approx(by_caption + math.log(2), abs=1e-6)
    assert contrastive_loss(videos, texts, torch.tensor(0.0)).item() == pytest.approx(loss.item(), abs=1e-6)


def test_a_single_pair_costs_nothing():
    assert contrastive_loss(make_embeds(0, 1), make_embeds(1, 1), torch.tensor(4.6)).item() == 0


def test_indistinguishable_pairs_cost_chance():
    """Each direction is a mean over pairs: ln of their number where nothing tells them apart."""
    uniform = torch.ones(8, 3) / math.sqrt(3)
    assert contrastive_loss(uniform, uniform, torch.tensor(1.0)).item() == pytest.approx(2 * math.log(8))


@pytest.mark.parametrize("cosine", [1.0, 0.0, -1.0, 0.6])
def test_generation_loss_is_the_squared_distance(cosine):
    texts = torch.tensor([[1.0, 0.0]] * 3)
    pseudo_queries = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]] * 3)
    squared_distance = (pseudo_queries - texts).square().sum(-1).mean()
    loss = generation_loss(pseudo_queries, texts).item()
    assert loss == pytest.approx(2 - 2 * cosine, abs=1e-6)
    assert loss == pytest.approx(squared_distance.item(), abs=1e-6)


def test_captions_are_not_detached():
    texts, videos, pseudo_queries = (make_embeds(seed) for seed in range(3))
    generation_loss(pseudo_queries, texts).backward()
    torch.testing.assert_close(texts.grad, -2 / 4 * pseudo_queries.detach())
    torch.testing.assert_close(pseudo_queries.grad, -2 / 4 * texts.detach())
    texts.grad = None
    contrastive_loss(texts, videos, torch.tensor(1.0)).backward()
    assert texts.grad.norm() > 0
    assert videos.grad.norm() > 0


def test_half_precision_embeds_are_compared_in_full_precision():
    """At scale 200, bfloat16 logits would be off by up to half a unit."""
    texts, videos = make_embeds(0).detach().bfloat16(), make_embeds(1).detach().bfloat16()
    scale = torch.tensor(200.0).log()
    loss = contrastive_loss(texts, videos, scale)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, contrastive_loss(texts.float(), videos.float(), scale), rtol=1e-6, atol=0
    )


def test_autocast_does_not_coarsen_the_logits():
    """Three videos that differ in the third digit of their cosines."""
    texts = torch.tensor([[0.6, 0.8, 0.0]] * 3)
    videos = normalize(texts + 0.003 * torch.randn(3, 3, generator=torch.Generator().manual_seed(9)), dim=-1)
    scale = torch.tensor(200.0).log()
    expected = contrastive_loss(texts, videos, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert contrastive_loss(texts, videos, scale).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("weight", [0, 1, 2.5])
def test_total_loss_weighs_the_generation_loss(make_tiny_model, tiny_batch, weight):
    output = make_tiny_model(generation_loss_weight=weight)(**tiny_batch)
    assert output.generation_loss > 0.1
    torch.testing.assert_close(output.loss, output.retrieval_loss + weight * output.generation_loss)


def test_compute_loss_takes_embeds_of_all_processes(tiny_model, tiny_batch):
    """The Trainer gathers embeds and asks for their losses: the same as forward's on the joint batch."""
    output = tiny_model(**tiny_batch)
    parts = [{name: value[rows] for name, value in tiny_batch.items()} for rows in (slice(0, 2), slice(2, 3))]
    outputs = [tiny_model(**part, return_loss=False) for part in parts]
    names = ("text_embeds", "video_embeds", "pseudo_query_embeds")
    gathered = {name: torch.cat([part[name] for part in outputs]) for name in names}
    losses = tiny_model.compute_loss(**gathered, logit_scale=output.logit_scale)
    for actual, name in zip(losses, ("loss", "retrieval_loss", "generation_loss"), strict=True):
        torch.testing.assert_close(actual, output[name])


def test_caption_tower_learns_from_the_generation_loss(tiny_model, tiny_batch):
    tiny_model(**tiny_batch).generation_loss.backward()
    assert tiny_model.text_projection.weight.grad.norm() > 0
    assert tiny_model.generator.text_projection.weight.grad.norm() > 0
    assert tiny_model.interaction.q_proj.weight.grad is None
