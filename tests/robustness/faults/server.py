"""Runs `pipe` commands in forked children, each with one fault: started under the preloaded library, asked by JSON lines.

A child starts with everything imported, so that thousands of faults take minutes and not hours.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

HEAVY = (
    "torch._dynamo tensorboard.summary.writer pyarrow.parquet dask.threaded faiss cv2 gated_vae.preprocessing.sources.celeba.build"
    " gated_vae.preprocessing.sources.grids.dsprites gated_vae.preprocessing.simulate.faces"
    " gated_vae.pairing.cluster gated_vae.pairing.exact"
    " gated_vae.pipelines.training.train gated_vae.pipelines.evaluation.opened gated_vae.pipelines.verify"
)


def main(library: str) -> None:
    faults = ctypes.CDLL(library)
    faults.faults_count.restype = ctypes.c_long
    for name in HEAVY.split():
        import_module(name)
    _save_often()
    _make_dsprites_small()
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as said:
            code = _wait(_fork(faults, request, said.fileno()), request["seconds"])
            said.seek(0)
            answer = {"code": code, "calls": faults.faults_count(), "said": said.read().decode(errors="replace")}
        print(json.dumps(answer), flush=True)


def _save_often() -> None:
    """Checkpoints every third step, so that a few steps have several."""
    training = import_module("gated_vae.pipelines.training.train")
    train = training.train
    training.train = lambda config, options, *rest, **more: train(
        config, replace(options, checkpoint_every=3, log_every=2), *rest, **more
    )


def _make_dsprites_small() -> None:
    """The command line has only all 737,280."""
    import_module("gated_vae.preprocessing.sources.grids.dsprites").FACTORS.update(
        json.loads(os.environ["FAULTS_GRID"])
    )


def _fork(faults: Any, request: dict[str, Any], said: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        from gated_vae.pipelines import cli

        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
        os.chdir(Path(request["root"]).parent)
        folders = (request[name].encode() for name in ("root", "inputs"))
        faults.faults_arm(*folders, request["at"], request["error"], request["kinds"], request["lasting"])
        cli.main(request["words"])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 98
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    """Exit code of a child, minus the signal it died of; None where it hung and had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    main(sys.argv[1])
