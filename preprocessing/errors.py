"""The one exception users meet: what went wrong, why, and what to do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path

SEEDS = 2**63  # as many as everything that takes a seed can tell apart
_MOST = 5000  # characters of what is told, longer than any path
# The machine's troubles, not the file's: another try may well succeed.
_TROUBLES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}


class GatedVAEError(Exception):
    """A failure the user can act on, printed by ``pipe`` in at most three lines.

    Parameters
    ----------
    what:
        What failed, naming the file or option.
    why:
        The cause, naming the row or value where there is one.
    remedy:
        The next command or change that mends it.
    """

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        # Names and causes may hold newlines; what others' files say may be of any length.
        lines = (" ".join(text[:_MOST].splitlines()) for text in (what, why, remedy))
        super().__init__("\n".join(line for line in lines if line))
        self.what, self.why, self.remedy = what, why, remedy

    def __reduce__(self) -> tuple[type[GatedVAEError], tuple[str, str, str]]:
        """Let the error cross process boundaries whole."""
        return type(self), (self.what, self.why, self.remedy)


class UsageError(GatedVAEError):
    """An option that says nothing, whatever the data are: ``pipe`` exits with 2 instead of 1."""


class BadSourceError(GatedVAEError):
    """The source cannot become a store: a better one must not find what was begun with it in its way."""


def raise_trouble(error: OSError, *more: int) -> None:
    """Raise an error that the machine has had, not the file: too many open files, no memory, a network drive that is away.

    For those who go on without a file that cannot be read: they would do without good ones. `more` are other errors (numbers of
    `errno`) that they cannot go on from.
    """
    if error.errno in {*_TROUBLES, *more}:
        raise error


def check_seed(seed: int, name: str = "seed", below: int = SEEDS) -> int:
    """Give a seed as an int; `GatedVAEError` when it is negative or not `below` a bound, TypeError when it is no whole number."""
    if not 0 <= index(seed) < below:
        raise GatedVAEError(f"The {name} {seed} cannot be used.", "", f"Give a whole number from 0 to {below - 1}.")
    return index(seed)


def made_otherwise(key: str, found: object, wanted: object) -> str:
    """What is said of an option, or another fact, in which what is there differs from what is asked for."""
    return f"It was made with {key.replace('_', ' ')} {_in_words(found)}; this command has {_in_words(wanted)}."


def _in_words(value: object) -> str:
    """A value as it lies in a manifest."""
    if isinstance(value, Mapping):
        value = [f"{name} {one}" for name, one in value.items()]
    if isinstance(value, list | tuple):
        return " and ".join(map(str, value))
    return "nothing" if value is None else str(value)


@contextmanager
def naming(path: str | bytes | Path) -> Iterator[None]:
    """Have errors name the path where they name none: those of reading and writing, and all of Arrow's."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:  # without a number it is Arrow's word on what a file holds
            error.filename = os.fspath(path)
        raise
