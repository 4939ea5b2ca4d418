"""`pipe explore` as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.machine import HANG

COMMAND = (sys.executable, "-c", "from gated_vae.pipelines.cli import main; main()", "explore")


@contextmanager
def exploring(*words: object) -> Iterator[str]:
    """The address of an explorer that ends with the block, quietly and well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, *map(str, words), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("exploring"), process.communicate()[1]
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=HANG)
    assert (process.returncode, "Traceback" in told) == (0, False), told
