"""`torchrun --nproc-per-node N -m pipelines.train ...`: `pipe train` with the same options, each process a rank."""

from __future__ import annotations

import sys

from pipelines.cli import main
from pipelines.distributed import leave

if __name__ == "__main__":
    try:
        main(["train", *sys.argv[1:]])
    except SystemExit as done:
        leave(int(done.code or 0))
