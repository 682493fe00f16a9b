"""
Measures a trained model: text-to-video and video-to-text retrieval.

    python eval.py --model outputs/shapes --dataset shapes

Prints a table and writes `results.json` and `results.png`. Every video and caption is encoded once.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fpig.figures import check_matplotlib

if TYPE_CHECKING:
    from fpig.evaluation import RetrievalResults

COLUMNS = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR", "num_tied_queries")
DIRECTIONS = {
    "t2v": "text → video",
    "v2t": "video → text",
    "v2t_caption_pool": "video → text, caption pool",
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="trained model: a folder, or a repository of the Hub")
    add("--dataset", required=True, help="shapes, a csv, jsonl or parquet file, a folder, or a repository")
    add("--split", default="test", help="split of the dataset (default: %(default)s)")
    add("--output_dir", type=Path, help="default: outputs/evaluation/<model>_<dataset>_<split>")
    add("--batch_size", type=int, default=32, help="videos encoded together (default: %(default)s)")
    add(
        "--num_workers", type=int, default=0, help="decoding processes beside this one (default: %(default)s)"
    )
    add("--class_token", action="store_true", help="also measure the video tower's class token")
    add("--no_figure", action="store_true", help="leave the picture out")
    add("--revision", help="branch, tag or commit of the model's repository")
    add("--trust_remote_code", action="store_true", help="run the code of the model's repository")
    return parser.parse_args(arguments)


def format_table(results: "RetrievalResults") -> str:
    """All directions, one row each; recall in percent."""
    rows = [("", *COLUMNS[:-1], "tied queries")]
    measured = [("", results.metrics)]
    if results.class_token_metrics is not None:
        measured.append(("class token, ", results.class_token_metrics))
    for prefix, metrics in measured:
        for direction, name in DIRECTIONS.items():
            values = [metrics[f"{direction}_{column}"] for column in COLUMNS]
            rows.append((prefix + name, *(f"{value:.1f}" for value in values[:-1]), str(values[-1])))
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
    from fpig.datasets import load_captioned_videos
    from fpig.embedding import load_encoder
    from fpig.evaluation import describe_results, evaluate_retrieval
    from fpig.figures import draw_evaluation

    model, processor = load_encoder(arguments.model, arguments.revision, arguments.trust_remote_code)
    records = load_captioned_videos(arguments.dataset, arguments.split)
    results = evaluate_retrieval(
        model, processor, records, arguments.batch_size, arguments.num_workers, arguments.class_token
    )
    description = describe_results(results, arguments.dataset, arguments.split)
    description |= {"model": arguments.model, "revision": arguments.revision}
    title = (
        f"{arguments.model} on {arguments.dataset}, split {arguments.split}: "
        f"{description['num_captions']} captions, {description['num_videos']} videos"
    )
    print(f"{title}\n\n{format_table(results)}\n")
    folder = arguments.output_dir or choose_folder(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(description, indent=2) + "\n")
    if not arguments.no_figure:
        draw_evaluation(results, records, processor, folder / "results.png", title)
    print(f"Written to {folder}")


def main() -> None:
    """Bad arguments and bad data end in one line on stderr; all else is a bug and keeps its traceback."""
    arguments = parse_arguments()
    try:
        evaluate(arguments)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    main()
