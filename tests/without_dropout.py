"""As a script, runs the one that its first argument names, without the dropout that processes draw apart."""

import runpy
import sys
from pathlib import Path

from torch import nn

if __name__ == "__main__":
    nn.Dropout.forward = lambda self, values: values
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
