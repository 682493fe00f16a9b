"""
The demo as a Space of the Hub, or in a container: `fpig demo FOLDER VIDEOS` with its arguments from the
environment.

- `FPIG_MODEL`: a folder, or a repository of the Hub, whose code is run
- `FPIG_REVISION`: the repository's commit; without it whatever is current there
- `FPIG_VIDEOS`: a folder of videos, an index, or captioned videos
"""

import os

from fpig.demo import main


def read_arguments() -> list[str]:
    """
    The command line that the environment stands for.

    Raises:
        SystemExit: the model or the videos are not given.
    """
    for name in ("FPIG_MODEL", "FPIG_VIDEOS"):
        if not os.environ.get(name):
            raise SystemExit(f"error: `{name}` is not set; set FPIG_MODEL and FPIG_VIDEOS, as for fpig demo")
    arguments = [os.environ["FPIG_MODEL"], os.environ["FPIG_VIDEOS"], "--trust_remote_code"]
    if os.environ.get("FPIG_REVISION"):
        arguments += ["--revision", os.environ["FPIG_REVISION"]]
    return [*arguments, "--host", "0.0.0.0", "--port", os.environ.get("PORT", "7860")]


if __name__ == "__main__":
    main(read_arguments())
