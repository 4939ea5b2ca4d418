"""`pipe` at small size without its seconds of imports: a process that has them forks for every command that it is asked for.

`python -m tests.docs.starter SOCKET` is that process; this file, run as a script with a socket and words, asks it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from pathlib import Path

HEAVY = (
    "torch._dynamo",
    "tensorboard.summary.writer",
    "pyarrow.parquet",
    "dask.threaded",
    "faiss",
    "cv2",
    "sklearn.ensemble",
)
MOST = 1 << 20  # bytes of a command and its environment


def ask(path: str, words: list[str]) -> int:
    """Have a command run here, with what is open here; its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as starter:
        starter.connect(path)
        told = json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(starter, [told], [0, 1, 2])
        return int(starter.recv(1)[0])


def start(path: str) -> None:
    """Run what is asked for until this process is ended."""
    from importlib import import_module

    for name in HEAVY:
        import_module(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as here:
        here.bind(path)
        here.listen()
        print("ready", flush=True)
        while True:
            asked, _ = here.accept()
            if os.fork() == 0:
                _answer(asked)
            asked.close()


def _answer(asked: socket.socket) -> None:
    told, handles, _, _ = socket.recv_fds(asked, MOST, 3)
    words, folder, environment = json.loads(told)
    if (command := os.fork()) == 0:
        asked.close()
        for handle, number in zip(handles, (0, 1, 2), strict=True):
            os.dup2(handle, number)
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        _run(words)
    asked.send(bytes([os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]) % 256]))
    os._exit(0)


def _run(words: list[str]) -> None:
    from gated_vae.pipelines.cli import main
    from tests.docs.small import small

    code = 1
    try:
        main(small(words))
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    path, *words = sys.argv[1:]
    sys.exit(ask(path, words)) if words else start(path)
