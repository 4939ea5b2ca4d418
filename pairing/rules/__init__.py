"""Who is paired with whom inside a group: a file for each rule, and a line here.

A rule's module has ``prepare(grouping, number)``, which returns a `gated_vae.pairing.rules.base.PairingRule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from gated_vae.preprocessing.errors import UsageError

if TYPE_CHECKING:
    from gated_vae.pairing.rules.base import Grouping, PairingRule


@dataclass(frozen=True)
class RuleKind:
    """A rule that can be asked for.

    Attributes
    ----------
    module:
        Where it is.
    default:
        The number that its name alone stands for; None where it takes none.
    strata:
        Whether the number is one of strata of everything else that samples are labelled with.
    """

    module: str
    default: int | None = None
    strata: bool = False


RULES = {
    "uniform": RuleKind("gated_vae.pairing.rules.uniform"),
    "independent": RuleKind("gated_vae.pairing.rules.independent", 16, strata=True),
    "nearest": RuleKind("gated_vae.pairing.rules.nearest", 8),
}


@dataclass(frozen=True)
class Rule:
    """A rule of `RULES` by its name, with its number."""

    name: str
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read ``NAME`` or ``NAME:NUMBER``.

        `UsageError` when there is no such rule, or its number is none from 1 on.
        """
        name, colon, number = text.partition(":")
        kind = RULES.get(name)
        if kind is None:
            raise UsageError(f"There is no rule {name!r}.", "", f"Choose from {forms()}.")
        if not colon:
            return cls(name, kind.default or 0)
        if kind.default is None or not number.isdecimal() or not int(number):
            raise UsageError(f"{text} is no rule.", "N is a whole number from 1 on.", f"Choose from {forms()}.")
        return cls(name, int(number))

    @property
    def kind(self) -> RuleKind:
        """What the registry says of it."""
        return RULES[self.name]

    def __str__(self) -> str:
        return f"{self.name}:{self.number}" if self.number else self.name

    def prepare(self, grouping: Grouping) -> PairingRule:
        """Prepare it for groups."""
        made: PairingRule = import_module(self.kind.module).prepare(grouping, self.number)
        return made


UNIFORM = Rule("uniform")


def forms() -> str:
    """How every rule is written."""
    return "|".join(name if kind.default is None else f"{name}[:N]" for name, kind in RULES.items())
