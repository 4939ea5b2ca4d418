"""TensorBoard's event file, written at once and by the thread that trains, so that a full disk is met where it is full."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped, unused-ignore]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped, unused-ignore]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped, unused-ignore]

from gated_vae.models import distributed


class EventLog:
    """Appends scalars to a new event file in `folder`; whatever earlier files say of steps from `first_step` on is void."""

    def __init__(self, folder: Path, first_step: int) -> None:
        host = socket.gethostname()
        path = folder / f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}.{first_step}"
        self._file = path.open("ab")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the values of one step by name."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()


@contextmanager
def event_log(folder: Path, first_step: int) -> Iterator[EventLog | None]:
    """The event file while the block runs, on the first rank; the others have none."""
    if distributed.rank() != 0:
        yield None
        return
    events = EventLog(folder, first_step)
    try:
        yield events
    finally:
        events.close()
