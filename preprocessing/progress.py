"""How a command tells how far it is: one protocol for everything that takes long."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told steps done, steps in all and what is under way (nothing where that goes without saying), now and then."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show it."""


def ignore(done: int, total: int, note: str = "") -> None:
    """Show nothing."""


def as_note(progress: Progress, done: int, total: int) -> Progress:
    """The progress of one thing of many: told in steps, as a note beside how many are done."""
    return lambda step, steps, _="": progress(done, total, f"step {step:,} of {steps:,}")
