"""Evaluation of a model on captioned videos, down to the numbers of `results.json`."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from toys import make_model, make_records
from video_retrieval.ranking import rank_scores, summarize_ranks, summarize_retrieval
from video_retrieval.rescoring import rank_with_dual_softmax, rank_with_query_bank

from fpig.annotations.published import hash_ids
from fpig.datasets import CaptionedSplit
from fpig.evaluation import describe_results, evaluate_retrieval
from fpig.extra_measurements import ExtraMeasurements
from fpig.single_tower import project_videos, rank_in_two_stages, rank_with_queries

BANK = ("a red bar", "a blue square blinks", "something else")
ALL_EXTRAS = ExtraMeasurements(
    class_token=True,
    query_interaction=True,
    num_reranked=3,
    dual_softmax=True,
    query_bank=BANK,
    query_bank_name="train",
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=7)


@pytest.fixture(scope="module")
def results(model, processor, records):
    return evaluate_retrieval(model, processor, records, batch_size=3, extras=ALL_EXTRAS)


def compute_scores(model, processor, records):
    """[Q, V] through `forward`, one caption and one video at a time."""
    with torch.no_grad():
        return np.array(
            [
                [
                    model(**processor(text=[caption], videos=[other.video]), return_loss=False)
                    .logits_per_text.div(model.get_logit_scale().exp())
                    .item()
                    for other in records
                ]
                for record in records
                for caption in record.captions
            ]
        )


def test_metrics_are_those_of_forward(model, processor, records, results):
    labels = [index for index, record in enumerate(records) for _ in record.captions]
    assert labels == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 6]
    scores = compute_scores(model, processor, records)
    np.testing.assert_allclose(results.text_embeds @ results.video_embeds.T, scores, atol=1e-5)
    assert results.metrics == summarize_retrieval(rank_scores(scores, np.array(labels)))
    assert results.caption_video_indices.tolist() == labels
    assert results.captions == [caption for record in records for caption in record.captions]
    assert results.metrics["t2v_R@1"] < 100 < results.metrics["t2v_SumR"]


def test_class_token_metrics_are_those_of_the_baseline(model, processor, records, results):
    baseline = make_model(processor, video_pooling="class_token")
    baseline.load_state_dict(model.state_dict(), strict=False)
    expected = evaluate_retrieval(baseline, processor, records)
    assert results.extra_metrics["class_token_metrics"] == expected.metrics != results.metrics
    assert expected.extra_metrics == {}


def test_extras_are_those_of_their_functions(model, processor, records, results):
    """Each under its own key, and none of them the headline."""
    pixel_values = processor(videos=[record.video for record in records], return_tensors="pt")
    with torch.no_grad():
        videos = project_videos(model, model.get_video_features(**pixel_values).summary_tokens)
        tokens_of_text = processor(text=results.captions, return_tensors="pt")
        features = model.get_text_features(**tokens_of_text).pooler_output
        bank_embeds = model.encode_text(**processor(text=list(BANK), return_tensors="pt"))
    indices = results.caption_video_indices
    embeds = (results.text_embeds, results.video_embeds, indices)
    measured = results.extra_metrics
    expected = summarize_retrieval(rank_with_queries(model, features, videos, indices))
    assert measured["query_interaction_metrics"] == expected != results.metrics
    two_stages = rank_in_two_stages(model, features, results.video_embeds, videos, indices, 3)
    expected = summarize_ranks(two_stages, "t2v_") | {"num_reranked": 3}
    assert measured["two_stage_metrics"] == expected
    assert expected["t2v_MnR"] != results.metrics["t2v_MnR"]
    expected = summarize_retrieval(rank_with_dual_softmax(*embeds)) | {"temperature": 100.0}
    assert measured["dual_softmax_metrics"] == expected
    ranks = rank_with_query_bank(*embeds, bank_embeds)
    expected = {
        "t2v_num_tied_queries": np.count_nonzero(ranks.t2v_ties),
        "num_rescored_queries": np.count_nonzero(ranks.is_rescored),
        "beta": 20.0,
        "bank": "train",
        "bank_size": 3,
    }
    assert measured["query_bank_metrics"] == summarize_ranks(ranks.t2v, "t2v_") | expected
    assert results.metrics == evaluate_retrieval(model, processor, records).metrics


@pytest.mark.parametrize(
    ("pooling", "extras", "message"),
    [
        ("mean", {"class_token": True}, "`video_pooling` is 'mean', and such a model has no class token"),
        (
            "class_token",
            {"query_interaction": True},
            "`video_pooling` is 'class_token' and",
        ),
        ("mean", {"num_reranked": 3}, "real queries need a model with an interaction"),
        ("pseudo_query", {"num_reranked": 0}, "`num_reranked` is 0; re-rank at least 1 video"),
    ],
)
def test_extras_that_a_model_has_not_are_refused_before_any_work(processor, pooling, extras, message):
    model = make_model(processor, video_pooling=pooling)
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(model, processor, [], extras=ExtraMeasurements(**extras))


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (32, 2)])
def test_batches_and_workers_do_not_matter(model, processor, records, results, batch_size, num_workers):
    again = evaluate_retrieval(model, processor, records, batch_size=batch_size, num_workers=num_workers)
    assert again.metrics == results.metrics


def test_a_video_without_captions_is_a_distractor(model, processor, records, results):
    silent = dataclasses.replace(records[1], captions=())
    less = evaluate_retrieval(model, processor, [records[0], silent, *records[2:]])
    assert (len(less.ranks.t2v), len(less.ranks.v2t), len(less.video_embeds)) == (11, 6, 7)
    is_other = results.caption_video_indices.numpy() != 1
    np.testing.assert_array_equal(less.ranks.t2v, results.ranks.t2v[is_other])


def test_two_videos_with_the_same_caption_tie_in_no_ones_favour(model, processor, records):
    twins = [dataclasses.replace(records[0], captions=("rise",)), *records[1:]]
    twins[1] = dataclasses.replace(records[1], video=records[0].video, captions=("rise",))
    ranks = evaluate_retrieval(model, processor, twins).ranks
    assert list(ranks.t2v_ties[:2]) == [1, 1]
    assert ranks.t2v[0] == ranks.t2v[1] > 1


def test_a_model_that_computes_nan_is_an_error(processor, records):
    model = make_model(processor)
    with torch.no_grad():
        model.text_projection.weight[3, 4] = float("nan")
    with pytest.raises(ValueError, match="a NaN has no rank"):
        evaluate_retrieval(model, processor, records)


def test_nothing_to_look_for_is_an_error(model, processor, records):
    with pytest.raises(ValueError, match="`records` has 0 videos and no caption"):
        evaluate_retrieval(model, processor, [])
    with pytest.raises(ValueError, match="`records` has 1 videos and no caption"):
        evaluate_retrieval(model, processor, [dataclasses.replace(records[0], captions=())])


def test_description_says_what_was_measured_and_how(records, results):
    split = CaptionedSplit("toys", "test", records, {"gone.mp4": "missing"}, 8, "several captions")
    description = describe_results(results, split)
    assert json.loads(json.dumps(description)) == description
    assert (description["dataset"], description["split"]) == ("toys", "test")
    assert (description["num_captions"], description["num_videos"]) == (13, 7)
    assert description["metrics"] == results.metrics
    assert {key: description[key] for key in results.extra_metrics} == results.extra_metrics
    assert len(results.extra_metrics) == 5
    assert set(description["protocol"]) == {"name", "t2v", "v2t", "v2t_caption_pool", "ties", "re-scoring"}
    assert description["protocol"]["name"] == "several captions"
    assert description["num_published_videos"] == 8
    assert description["skipped_videos"] == {"gone.mp4": "missing"}
    assert description["id_checksum"] == hash_ids(record.video_id for record in records)
    assert description["caption_checksum"] == split.caption_checksum
    assert description["versions"]["torch"] == torch.__version__
    assert description["date"].endswith("+00:00")


def test_description_does_not_tell_where_the_data_lie(results, tmp_path):
    (tmp_path / "clips").mkdir()
    for source, expected in ((str(tmp_path / "clips"), "clips"), ("someone/clips", "someone/clips")):
        assert describe_results(results, CaptionedSplit(source, "test", []))["dataset"] == expected
