"""
Publishes a trained model on the Hub, and tries what arrived there before it becomes current.

    fpig push outputs/shapes organisation/name
"""

import argparse
import sys
from pathlib import Path

from fpig.hub_target import HubTarget


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. No token on it: it would stay in the shell's history."""
    parser = argparse.ArgumentParser(
        prog="fpig push",
        description="Publish a trained model on the Hub. Needs `hf auth login`, or HF_TOKEN.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the output_dir of a finished train.py")
    parser.add_argument("repo_id", metavar="ORGANISATION/NAME", help="made if it is not there")
    parser.add_argument("--private", action="store_true", default=None, help="make the repository private")
    parser.add_argument("--revision", help="a branch instead of the main one; made if it is not there")
    parser.add_argument("--commit_message", default="Release", help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Uploads, loads from the Hub, compares, and only then says where it is."""
    options = parse_arguments(arguments)
    try:
        if not options.folder.is_dir():
            raise FileNotFoundError(f"`{options.folder}` is no folder; pass the one that holds the model")
        target = HubTarget(options.repo_id, options.revision, options.private)
        # Only now, and not at the top: it takes seconds, in which a typing error can be told.
        from fpig.publishing import list_release_files, publish_release

        names = list_release_files(options.folder)
        left_out = sorted({path.name for path in options.folder.iterdir()} - {n.split("/")[0] for n in names})
        if left_out:
            sys.stderr.write(f"left out, no part of a release: {', '.join(left_out)}\n")
        commit = publish_release(options.folder, target, options.commit_message)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
    sys.stdout.write(f"Published {target.api.endpoint}/{target.repo_id} at {commit}\n")
    sys.stdout.write("Loaded from there, it gives the same embeddings.\n")


if __name__ == "__main__":
    main()
