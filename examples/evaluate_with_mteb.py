"""
Measure a trained model with MTEB: captions are queries, videos are documents, of any data set of train.py.

    pip install -e ".[mteb,sentence-transformers]"
    python examples/evaluate_with_mteb.py outputs/shapes shapes --split test
"""

import argparse
from types import SimpleNamespace

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from fpig.datasets import load_captioned_videos

parser = argparse.ArgumentParser(description="Measure text-to-video retrieval with MTEB.")
parser.add_argument("model", help="trained model: a folder, or a repository of the Hub")
parser.add_argument("dataset", help="shapes, a csv, jsonl or parquet file, a folder, or a repository")
parser.add_argument("--split", help="of the data set (default: all videos)")
parser.add_argument("--batch_size", type=int, default=32)
arguments = parser.parse_args()


class UndecodedVideo:
    """
    What MTEB's collator takes for a decoder: all frames that it asks for are the video itself. So the model's
    own processor decodes it, and only the frames that it needs, where torchcodec would hold every frame.
    """

    metadata = SimpleNamespace(num_frames=1)

    def __init__(self, video: object) -> None:
        self.data = video

    def get_frames_at(self, indices: list[int]) -> "UndecodedVideo":
        return self


class CaptionedVideoRetrieval(AbsTaskRetrieval):
    """Every caption is a query, its video the one relevant document."""

    metadata = mteb.TaskMetadata(
        name="CaptionedVideoRetrieval",
        description="Find the video that a caption describes.",
        dataset={"path": arguments.dataset, "revision": "local"},
        type="Any2AnyRetrieval",
        category="t2v",
        modalities=["text", "video"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, num_proc: int | None = None, **kwargs: object) -> None:
        records = load_captioned_videos(arguments.dataset, arguments.split)
        corpus = {"id": [record.video_id for record in records], "video": range(len(records))}
        queries, relevant = {"id": [], "text": []}, {}
        for record in records:
            for caption in record.captions:
                query_id = str(len(relevant))
                queries["id"].append(query_id)
                queries["text"].append(caption)
                relevant[query_id] = {record.video_id: 1}

        def take_videos(rows: dict[str, list]) -> dict[str, list]:
            return rows | {"video": [UndecodedVideo(records[index].video) for index in rows["video"]]}

        split = {
            "corpus": Dataset.from_dict(corpus).with_transform(take_videos),
            "queries": Dataset.from_dict(queries),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


encoder = SentenceTransformerEncoderWrapper(SentenceTransformer(arguments.model, trust_remote_code=True))
# MTEB takes a model that it has not loaded itself for one of texts alone.
meta = encoder.mteb_model_meta.model_copy(update={"modalities": encoder.model.modalities})
encoder.mteb_model_meta = meta
results = mteb.evaluate(
    encoder,
    CaptionedVideoRetrieval(),
    encode_kwargs={"batch_size": arguments.batch_size},
    cache=None,
    show_progress_bar=False,
)
scores = results.task_results[0].scores["test"][0]
for name in ("hit_rate_at_1", "recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10"):
    print(f"{name} {scores[name]:.5f}")
