"""
The metric's page: what a Space runs, `python app.py`.

A Space holds this folder alone, where the files are modules of their own and not a package.
"""

import json
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

if __package__:
    from .ranking import check_indices, rank_scores, summarize_ranks, summarize_retrieval
    from .run_files import rank_run
    from .uploads import read_indices, read_qrels, read_run, read_scores
else:
    from ranking import check_indices, rank_scores, summarize_ranks, summarize_retrieval
    from run_files import rank_run
    from uploads import read_indices, read_qrels, read_run, read_scores

Measure = Callable[[str | None, str | None], tuple[str, dict[str, float]]]

EXAMPLES = Path(__file__).parent / "examples"
MATRIX_EXAMPLE = [str(EXAMPLES / name) for name in ("scores.csv", "video_indices.txt")]
RUN_EXAMPLE = [str(EXAMPLES / name) for name in ("run.txt", "qrels.txt")]
MAX_UPLOAD_SIZE = "200mb"
# Uploads are looked at every ten minutes and removed after an hour.
CACHE_SECONDS = (600, 3_600)
DIRECTIONS = {"t2v": "text → video", "v2t": "video → text", "v2t_caption_pool": "video → text, caption pool"}
ROWS = {
    "R@1": "R@1, %",
    "R@5": "R@5, %",
    "R@10": "R@10, %",
    "SumR": "SumR",
    "MdR": "MdR",
    "MnR": "MnR",
    "num_tied_queries": "tied queries",
}
CSS = """
.results table {border-collapse: collapse; width: 100%; max-width: 640px}
.results th, .results td {padding: 4px 8px; text-align: right; border: 0; border-bottom: 1px solid #8884}
.results th:first-child {text-align: left; white-space: nowrap}
.results p, .error {overflow-wrap: anywhere}
.error {border-left: 4px solid #dc2626; padding-left: 8px}
"""
MATRIX_HELP = """
One row of scores per caption, one column per video; higher is more similar. A `.npy` array, or a `.csv` or
`.tsv` file of numbers without header. The second file has, for each caption, the index of its video, from 0.
Without it the matrix must be square, and caption *i* belongs to video *i*.
"""
RUN_HELP = """
The lists of a search engine in the form of TREC: lines of `topic Q0 document rank score tag`, and qrels with
lines of `topic 0 document relevance`, one relevant video per topic; plain or `.gz`. Videos are ranked by
score. A topic whose video is not in the run counts as missed at every k, and then median and mean rank are
unknown. A run has the best videos only, so it says nothing about video to text.
"""
FOOT = """
Ties count against the model. Files of at most 200 MB; they are removed after about an hour. Protocol and
formulas are in the README.
"""


def measure_matrix(scores_path: str | None, indices_path: str | None) -> tuple[str, dict[str, float]]:
    """
    What was measured, and the numbers of both directions, as in `summarize_retrieval`.

    Raises:
        ValueError: no matrix, one that can't be used, or indices that don't fit.
    """
    if scores_path is None:
        raise ValueError("`scores` is not there; choose a file with a matrix of scores")
    scores_file = Path(scores_path)
    scores = read_scores(scores_file)
    num_captions, num_videos = scores.shape
    if indices_path is not None:
        indices_file = Path(indices_path)
        indices = check_indices(read_indices(indices_file), num_captions, num_videos, indices_file.name)
    elif num_captions == num_videos:
        indices = np.arange(num_captions)
    else:
        raise ValueError(
            f"`{scores_file.name}` has {num_captions} captions and {num_videos} videos; in a square matrix "
            "alone caption i belongs to video i: choose a file with the video index of each caption"
        )
    heading = f"{scores_file.name}: {num_captions} captions, {num_videos} videos"
    return heading, summarize_retrieval(rank_scores(scores, indices))


def measure_run(run_path: str | None, qrels_path: str | None) -> tuple[str, dict[str, float]]:
    """
    What was measured, and the numbers of text to video.

    Returns:
        The keys `t2v_…` of `summarize_retrieval`, without `t2v_MdR` and `t2v_MnR` where a true video is not
        in the run, and `t2v_num_missing_videos`: how many of them are not.

    Raises:
        ValueError: a file is not there or can't be used, or the two don't fit.
    """
    if run_path is None or qrels_path is None:
        raise ValueError("`run` or `qrels` is not there; choose a file for each of the two")
    ranks = rank_run(read_run(Path(run_path)), read_qrels(Path(qrels_path)))
    summary = summarize_ranks(ranks.t2v, "t2v_")
    results = {name: value for name, value in summary.items() if np.isfinite(value)}
    num_missing = int(np.count_nonzero(np.isinf(ranks.t2v)))
    if num_missing:
        # Not even where the missing ones are in the minority: their ranks depend on where the run ends.
        results.pop("t2v_MdR", None)
    results["t2v_num_tied_queries"] = int(np.count_nonzero(ranks.t2v_ties))
    results["t2v_num_missing_videos"] = num_missing
    heading = f"{Path(run_path).name}: {len(ranks.t2v)} topics, {num_missing} whose video is not in the run"
    return heading, results


def render_results(heading: str, results: dict[str, float]) -> str:
    """A table with one decimal, a column per direction."""
    directions = [name for name in DIRECTIONS if f"{name}_R@1" in results]
    titles = "".join(f'<th scope="col">{DIRECTIONS[name]}</th>' for name in directions)
    rows = []
    for key, title in ROWS.items():
        values = [results.get(f"{name}_{key}") for name in directions]
        shown = ["unknown" if value is None else format_value(value) for value in values]
        cells = "".join(f"<td>{text}</td>" for text in shown)
        rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    table = f"<table><thead><tr><th></th>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="results" role="status"><p>{escape(heading)}</p>{table}</div>'


def format_value(value: float) -> str:
    """A count as it is, everything else with one decimal."""
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def show(measure: Measure) -> Callable[[str | None, str | None], list[str]]:
    """
    The table and the JSON of a measurement, or the message of its error and nothing.

    A message takes the place of the last numbers, which belong to other files.
    """

    def handle(first: str | None, second: str | None) -> list[str]:
        try:
            heading, results = measure(first, second)
        except (OSError, ValueError) as error:
            return [f'<p class="error" role="alert">{escape(str(error))}</p>', ""]
        return [render_results(heading, results), json.dumps(results, indent=2)]

    return handle


def build_page() -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Video retrieval", analytics_enabled=False, delete_cache=CACHE_SECONDS) as page:
        gr.HTML("<h1>Video retrieval</h1><p>Recall, median and mean rank of your own scores.</p>")
        results = [gr.HTML(render=False), gr.Code(label="All numbers", language="json", render=False)]
        with gr.Tab("Score matrix"):
            gr.Markdown(MATRIX_HELP)
            build_form(measure_matrix, ["Scores", "Video of each caption"], MATRIX_EXAMPLE, results)
        with gr.Tab("Run file"):
            gr.Markdown(RUN_HELP)
            build_form(measure_run, ["Run", "Qrels"], RUN_EXAMPLE, results)
        for result in results:
            result.render()
        gr.Markdown(FOOT)
    return page


def build_form(measure: Measure, labels: list[str], example: list[str], results: list[gr.Component]) -> None:
    """Places for two files, and a button each to measure them or the example."""
    with gr.Row():
        files = [gr.File(label=label, height=120) for label in labels]
    with gr.Row():
        button, example_button = gr.Button("Measure", variant="primary"), gr.Button("Try an example")
    button.click(show(measure), files, results)
    example_button.click(lambda: example, None, files).then(show(measure), files, results)


if __name__ == "__main__":
    build_page().launch(
        max_file_size=MAX_UPLOAD_SIZE,
        allowed_paths=[str(EXAMPLES)],
        theme=gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("monospace",)),
        css=CSS,
        ssr_mode=False,
        footer_links=[],
    )
