"""`torchrun --nproc-per-node N -m gated_vae.pipelines.train ...`: `pipe train` with the same options, each process a rank."""

from __future__ import annotations

import sys

from gated_vae.pipelines.cli import main
from gated_vae.pipelines.training.ranks import leave

if __name__ == "__main__":
    try:
        main(["train", *sys.argv[1:]])
    except SystemExit as done:
        leave(int(done.code or 0))
