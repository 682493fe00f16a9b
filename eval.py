"""
Measures a trained model: text-to-video and video-to-text retrieval, or TRECVID's ad-hoc video search.

    python eval.py --model outputs/shapes --dataset shapes
    python eval.py --model outputs/msrvtt9k_vit_b32 --dataset msrvtt1k --data_root data/msrvtt
    python eval.py --model outputs/msrvtt9k_vit_b32 --dataset tv21 --data_root data/v3c1
    accelerate launch eval.py --model outputs/shapes --dataset shapes    # on all GPUs, the same numbers

Prints a table and writes `results.json` and `results.png`; of tv19 to tv23 `run.txt` instead of the picture.
Every video and caption is encoded once.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fpig.annotations.v3c import AVS_YEARS
from fpig.annotations.videos import ON_MISSING
from fpig.avs_scoring import MISSING_TOPICS
from fpig.figures import check_matplotlib

if TYPE_CHECKING:
    from fpig.evaluation import RetrievalResults

COLUMNS = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR", "num_tied_queries")
DIRECTIONS = {
    "t2v": "text → video",
    "v2t": "video → text",
    "v2t_caption_pool": "video → text, caption pool",
}
EXTRAS = {
    "class_token_metrics": "class token",
    "query_interaction_metrics": "real query",
    "two_stage_metrics": "two stages",
    "dual_softmax_metrics": "dual softmax",
    "query_bank_metrics": "query bank",
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="trained model: a folder, or a repository of the Hub")
    add(
        "--dataset",
        required=True,
        help="msrvtt1k, msrvtt3k, msvd, vatex, didemo, tv19 … tv23, shapes, a csv, jsonl or parquet file, a "
        "folder, or a repository",
    )
    add("--data_root", type=Path, help="folder of a published data set (default: data/<its name>)")
    add(
        "--on_missing",
        choices=ON_MISSING,
        default="raise",
        help="skip: leave missing and unreadable videos out, counted and named (default: %(default)s)",
    )
    add("--split", default="test", help="split of the dataset (default: %(default)s)")
    add("--output_dir", type=Path, help="default: outputs/evaluation/<model>_<dataset>_<split>")
    add("--batch_size", type=int, default=32, help="videos encoded together (default: %(default)s)")
    add(
        "--num_workers", type=int, default=0, help="decoding processes beside this one (default: %(default)s)"
    )
    add("--class_token", action="store_true", help="also measure the video tower's class token")
    add(
        "--interaction",
        choices=("pseudo_query", "query"),
        default="pseudo_query",
        help="query: also measure every query in the pseudo-query's place, as a single tower has it",
    )
    add("--rerank", type=int, metavar="K", help="also let real queries re-rank the best K videos")
    add("--dual_softmax", action="store_true", help="also re-score with all test queries at once (DSL)")
    add("--query_bank", metavar="SPLIT", help="also re-score with this split's captions (QB-Norm)")
    add(
        "--missing_topics",
        choices=MISSING_TOPICS,
        default="raise",
        help="tv19 … tv23: topics judged but not searched for: an error, scored 0, or left out, as the "
        "official program does (default: %(default)s)",
    )
    add("--no_figure", action="store_true", help="leave the picture out")
    add("--revision", help="branch, tag or commit of the model's repository")
    add("--trust_remote_code", action="store_true", help="run the code of the model's repository")
    return parser.parse_args(arguments)


def format_table(results: "RetrievalResults") -> str:
    """All directions, one row each; recall in percent."""
    rows = [("", *COLUMNS[:-1], "tied queries")]
    measured = [("", results.metrics)]
    measured += [(f"{EXTRAS[key]}, ", metrics) for key, metrics in results.extra_metrics.items()]
    for prefix, metrics in measured:
        for direction, name in DIRECTIONS.items():
            values = [metrics.get(f"{direction}_{column}") for column in COLUMNS]
            if values[0] is not None:
                num_ties = "" if values[-1] is None else str(values[-1])
                rows.append((prefix + name, *(f"{value:.1f}" for value in values[:-1]), num_ties))
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        row[0].ljust(width) + "".join(cell.rjust(8) for cell in row[1:-1]) + row[-1].rjust(14) for row in rows
    )


def choose_folder(arguments: argparse.Namespace) -> Path:
    """Where the results go by default: another model, dataset or split has another folder."""
    model, dataset = Path(arguments.model).resolve().name, Path(arguments.dataset).resolve().name
    return Path("outputs", "evaluation", f"{model}_{dataset}_{arguments.split}")


def evaluate(arguments: argparse.Namespace) -> None:
    """Loads, measures, prints and writes."""
    if not arguments.no_figure:
        check_matplotlib()
    # Only now, and not at the top: it takes seconds, in which a typing error can be told.
    from fpig.datasets import check_videos, load_annotated, load_captions
    from fpig.embedding import load_encoder
    from fpig.evaluation import describe_results, evaluate_retrieval
    from fpig.extra_measurements import ExtraMeasurements
    from fpig.figures import draw_evaluation
    from fpig.sharing import join_processes

    processes = join_processes()
    if arguments.missing_topics != "raise":
        raise ValueError(
            f"`missing_topics` is {arguments.missing_topics!r}, which has a meaning for tv19 … tv23 alone: "
            "leave it out"
        )
    if arguments.query_bank == arguments.split:
        raise ValueError(
            f"`query_bank` is {arguments.query_bank!r}, the split that is measured; pass another, such as "
            "train"
        )
    model, processor = load_encoder(arguments.model, arguments.revision, arguments.trust_remote_code)
    model.to(processes.device)
    dataset, root = arguments.dataset, arguments.data_root
    annotated = load_annotated(dataset, arguments.split, root)
    split = check_videos(annotated, arguments.on_missing, is_shared=True)
    bank = load_captions(dataset, arguments.query_bank, root) if arguments.query_bank is not None else ()
    extras = ExtraMeasurements(
        class_token=arguments.class_token,
        query_interaction=arguments.interaction == "query",
        num_reranked=arguments.rerank,
        dual_softmax=arguments.dual_softmax,
        query_bank=bank,
        query_bank_name=arguments.query_bank,
    )
    results = evaluate_retrieval(
        model, processor, split.records, arguments.batch_size, arguments.num_workers, extras
    )
    if not processes.is_main_process:
        return
    description = describe_results(results, split)
    title = (
        f"{arguments.model} on {arguments.dataset}, split {arguments.split}: "
        f"{description['num_captions']} captions, {description['num_videos']} videos"
    )
    print(f"{title}\n\n{format_table(results)}\n")
    folder = make_folder(arguments)
    write_results(arguments, folder, description)
    if not arguments.no_figure:
        draw_evaluation(results, split.records, processor, folder / "results.png", title)
    print(f"Written to {folder}")


def check_topic_options(arguments: argparse.Namespace) -> None:
    """
    Raises:
        ValueError: an option is given that has no meaning for topics.
    """
    defaults = parse_arguments([f"--model={arguments.model}", f"--dataset={arguments.dataset}"])
    for name in ("split", "class_token", "interaction", "rerank", "dual_softmax", "query_bank"):
        value = vars(arguments)[name]
        if value != vars(defaults)[name]:
            raise ValueError(
                f"`{name}` is {value!r}, which has no meaning for {arguments.dataset}, a list of topics: "
                "leave it out"
            )


def evaluate_topics(arguments: argparse.Namespace) -> None:
    """Ad-hoc video search: writes the run, and scores it where the judgements are there."""
    from fpig.avs import describe_topics, format_table
    from fpig.avs_files import write_run
    from fpig.avs_scoring import score_run
    from fpig.avs_search import load_task, search_shots
    from fpig.embedding import load_encoder
    from fpig.evaluation import describe_search
    from fpig.sharing import join_processes

    check_topic_options(arguments)
    if (num_processes := join_processes().num_processes) > 1:
        raise ValueError(
            f"`num_processes` is {num_processes}, but {arguments.dataset} is searched by one: start `python "
            "eval.py` without `accelerate launch`"
        )
    dataset, root = arguments.dataset, arguments.data_root
    task = load_task(dataset, root, arguments.on_missing, arguments.missing_topics)
    model, processor = load_encoder(arguments.model, arguments.revision, arguments.trust_remote_code)
    gallery_dir = Path("outputs", "galleries", task.shots.dataset)
    run = search_shots(model, processor, task, gallery_dir, arguments.batch_size, arguments.num_workers)
    folder = make_folder(arguments)
    write_run(folder / "run.txt", run)
    results = score_run(run, task.qrels, arguments.missing_topics) if task.qrels else None
    description = describe_search(results, arguments.dataset, task, arguments.missing_topics)
    write_results(arguments, folder, description)
    print(f"{arguments.model} on {arguments.dataset}: {len(run)} topics, {len(task.shots.records)} shots\n")
    if results:
        print(format_table(results))
        print("".join(f"{note}\n" for note in describe_topics(results, arguments.missing_topics)), end="")
    print(f"Written to {folder}" + ("" if results else "; without judgements there is nothing to score"))


def make_folder(arguments: argparse.Namespace) -> Path:
    """The folder of the results."""
    folder = arguments.output_dir or choose_folder(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(arguments: argparse.Namespace, folder: Path, description: dict) -> None:
    """Writes `results.json`, whole or not at all: benchmarks take one that is there for a finished run."""
    description |= {"model": arguments.model, "revision": arguments.revision}
    partial = folder / ".results.json.partial"
    partial.write_text(json.dumps(description, indent=2) + "\n")
    partial.replace(folder / "results.json")


def main() -> None:
    """Bad arguments and bad data end in one line on stderr; all else is a bug and keeps its traceback."""
    arguments = parse_arguments()
    try:
        if arguments.dataset in AVS_YEARS:
            evaluate_topics(arguments)
        else:
            evaluate(arguments)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    main()
