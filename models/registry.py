"""What can be chosen by name, and choices with constants of their own as text: ``NAME`` or ``NAME:key=value,key=value``.

Names are known without importing what they stand for, so that help is instant; a new method, objective or network is a file and
a line here. The text of a choice is what users type and what ``config.json`` keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from gated_vae.models.methods.base import Method
    from gated_vae.models.networks import Network
    from gated_vae.models.objectives.base import Objective
    from gated_vae.models.objectives.likelihoods import Likelihood

T = TypeVar("T")


class NotRegisteredError(ValueError):
    """A name that stands for nothing."""

    def __init__(self, name: str, known: Registry[Any]) -> None:
        super().__init__(f"There is no {name!r}; choose from {', '.join(known)}.")
        self.name = name


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for, imported when asked for."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        """Take name -> ``module:attribute``, the module inside `gated_vae.models`."""
        self._entries: dict[str, str | T] = dict(homes)

    def __getitem__(self, name: str) -> T:
        """Import an entry.

        Raises
        ------
        NotRegisteredError
            When there is no such name.
        """
        if name not in self._entries:
            raise NotRegisteredError(name, self)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(import_module(f"gated_vae.models.{module}"), attribute)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: T) -> None:
        """Register something of one's own."""
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Take something out again."""
        del self._entries[name]


METHODS: Registry[type[Method]] = Registry(
    {
        "vae": "methods.vae:Ungated",
        "gate": "methods.gate:Gate",
        "prior-gate": "methods.gate:PriorGate",
        "exchange": "methods.exchange:Exchange",
        "partners": "methods.partners:Partners",
        "composed": "methods.composed:Composed",
        "gvae": "methods.averaged:GVAE",
        "ml-vae": "methods.averaged:MLVAE",
        "ada-gvae": "methods.averaged:AdaGVAE",
        "ada-ml-vae": "methods.averaged:AdaMLVAE",
        "slow-vae": "methods.slow:SlowVAE",
    }
)
OBJECTIVES: Registry[type[Objective]] = Registry(
    {
        "vae": "objectives.vae:VAE",
        "beta": "objectives.vae:BetaVAE",
        "annealed": "objectives.vae:AnnealedVAE",
        "tc": "objectives.correlation:TCVAE",
        "factor": "objectives.correlation:FactorVAE",
        "info": "objectives.info:InfoVAE",
        "dip1": "objectives.dip:DIPVAE1",
        "dip2": "objectives.dip:DIPVAE2",
    }
)
LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    {"bernoulli": "objectives.likelihoods:Bernoulli", "gaussian": "objectives.likelihoods:Gaussian"}
)
# PyTorch's names of what networks compute in. tf32 is float32 whose products on CUDA keep 10 bits of the mantissa.
PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}
AUGMENTATIONS = ("mirror", "shift", "light")  # of images in training, see `gated_vae.models.augment`
SCHEDULES = ("constant", "cosine")  # of the learning rate
NETWORKS: Registry[Network] = Registry({"fc": "networks:FULLY_CONNECTED", "conv": "networks:CONVOLUTIONAL"})


def parse(registry: Registry[type[T]], text: str) -> T:
    """Make the choice that a text names.

    Raises
    ------
    ValueError
        When there is no such name, a key is not one of its constants, or a value has no meaning.
    """
    name, _, rest = text.partition(":")
    kind = registry[name]
    kinds: dict[str, Any] = {field.name.rstrip("_"): field for field in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for entry in rest.split(",") if rest else []:
        key, _, value = (part.strip() for part in entry.partition("="))
        if key not in kinds:
            raise ValueError(f"{name} has no {key!r}; it has {', '.join(kinds) or 'no constants'}.")
        given[kinds[key].name] = _value(key, value, type(kinds[key].default))
    return kind(**given)


def describe(registry: Registry[type[T]], choice: T) -> str:
    """The text of a choice, with all its constants: `parse` gives the same choice back.

    Raises
    ------
    ValueError
        When it is of a kind that is not registered.
    """
    name = next((name for name, kind in registry.items() if type(choice) is kind), None)
    if name is None:
        raise ValueError(f"{type(choice).__name__} is not registered: `add` it first.")
    values = {field.name.rstrip("_"): getattr(choice, field.name) for field in fields(choice)}  # type: ignore[arg-type]
    constants = ",".join(f"{key}={str(value).lower()}" for key, value in values.items())
    return f"{name}:{constants}" if constants else name


def _value(key: str, text: str, kind: type) -> float | bool | int:
    """Read a value in the type of the constant's default."""
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{key} is true or false, not {text!r}.")
        return text == "true"
    return number(key, text, kind)


def number(key: str, text: str, kind: type = float) -> float | int:
    """Read a finite number of a kind, int or float, in any notation (1e4 is a whole one); `ValueError` says what `key` is."""
    with suppress(ValueError, OverflowError):
        value = kind(float(text))
        if math.isfinite(value) and value == float(text):
            return value  # type: ignore[no-any-return]
    raise ValueError(f"{key} is a {'whole ' if kind is int else ''}number, not {text!r}.")
