"""Named starting points for training, each a set of defaults that options override."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.preprocessing.errors import SEEDS, GatedVAEError, UsageError
from gated_vae.preprocessing.store import Store

if TYPE_CHECKING:
    from gated_vae.models.objectives import Objective
    from gated_vae.models.vae import GatedVAEConfig

MOST_SEEDS = 1000  # at a time
PIXELS = 64 * 64  # of the grey images that the presets' beta is meant for


@dataclass(frozen=True)
class Preset:
    """Defaults of one kind of training; objective and method as the texts that users type."""

    network: str
    objective: str
    latent: Mapping[str, int]  # sizes by partition name
    latent_else: int  # size of a partition that is not named above
    lr: float
    epochs: int
    schedule: str = "cosine"  # so that batch normalisation's statistics settle before the model is used
    method: str = "gate"
    augment: str = "none"
    kl_weights: Mapping[str, float] = field(default_factory=dict)

    def model(self, store: Store) -> GatedVAEConfig:
        """The model for a store; beta goes with the values in an image: a quarter of them earns a quarter of the nats."""
        from gated_vae.models.vae import GatedVAEConfig

        if not store.partitions:
            raise GatedVAEError(f"{store.path} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
        shape = tuple(store.manifest["image_shape"])
        objective = parse(OBJECTIVES, self.objective)
        return GatedVAEConfig(
            latent={name: self.latent.get(name, self.latent_else * _factors(store, name)) for name in store.partitions},
            image_shape=shape,
            network=self.network,
            method=parse(METHODS, self.method),
            objective=with_beta(objective, getattr(objective, "beta", 0.0) * math.prod(shape) / PIXELS),
            kl_weights={name: weight for name, weight in self.kl_weights.items() if name in store.partitions},
        )


def _factors(store: Store, partition: str) -> int:
    """How many factors a partition is to hold, where its pairs differ in some of all factors, else 1."""
    changes = store.partitions[partition].get("method") == "change"
    return len(store.manifest.get("factors", [partition])) if changes else 1


def with_beta(objective: Objective, beta: float) -> Objective:
    """The objective with another KL weight, where it has one."""
    return replace(objective, beta=beta) if hasattr(objective, "beta") else objective  # type: ignore[type-var]


# The paper's constants; rates, schedules and lengths are ours, and so is the KL weight for faces: at a plain VAE's 1 all 24
# dimensions die on 2,000 simulated faces (1,440 steps), since a pair in grey tells the decoder a few nats only.
_FACES = Preset("conv", "vae:beta=0.25", {"pose": 6, "expression": 18}, 6, 1e-3, 30)
_SPRITES = Preset("fc", "beta", {}, 2, 1e-3, 1)
PRESETS = {
    "faces": _FACES,
    "faces-partners": replace(
        _FACES,
        latent={"pose": 4, "expression": 6},
        lr=5e-4,
        epochs=70,
        method="partners:self_reconstruction=0.5",
        augment="mirror,shift,light",
        kl_weights={"pose": 0.3, "expression": 0.3},
    ),
    "dsprites-vae": replace(_SPRITES, objective="vae"),
    "dsprites-beta": _SPRITES,
    "dsprites-info": replace(_SPRITES, objective="info"),
    "dsprites-dip2": replace(_SPRITES, objective="dip2"),
}
DEFAULT_PRESET = {"dsprites": "dsprites-beta"}  # by kind of store, where it is not for faces


def read_latent(text: str, partitions: Collection[str]) -> dict[str, int]:
    """Latent sizes from ``NAME=SIZE,...``, one for each partition to be trained on."""
    latent = {name: int(size) for name, size in _read_entries("--latent", text, r"0*[1-9][0-9]{0,8}")}
    if not latent.keys() <= {*partitions} or len(latent) != len(text.split(",")):
        why = f"--latent names {', '.join(latent)}; the store has pairs for {', '.join(partitions)}."
        remedy = "Give each partition that is to be trained on one size."
        raise GatedVAEError("Latent sizes and partitions do not match.", why, remedy)
    return {name: latent[name] for name in partitions if name in latent}  # in training order, however they were named


def read_kl_weights(text: str, partitions: Collection[str]) -> dict[str, float]:
    """Weights from ``NAME=WEIGHT,...`` for some of the partitions."""
    entries = _read_entries("--kl-weights", text, r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    weights = {name: float(weight) for name, weight in entries}
    if len(weights) < len(entries) or not all(map(math.isfinite, weights.values())):
        raise UsageError(f"--kl-weights {text} cannot be used.", "", "Give each partition one finite weight.")
    unknown = [name for name in weights if name not in partitions]
    if unknown:
        why = f"There are {', '.join(partitions)}."
        raise GatedVAEError(f"--kl-weights names {unknown[0]}, which is no partition.", why, "Name some of them.")
    return weights


def read_hidden(text: str | None) -> tuple[int, ...]:
    """Hidden sizes from ``512,512``; none, which stands for the network's own, without a text."""
    entries = text.split(",") if text else []
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,8}\s*", entry) for entry in entries):
        raise UsageError(f"--hidden cannot be read: {text!r}.", "", "Write whole numbers such as 512,512.")
    return tuple(map(int, entries))


def read_seeds(text: str) -> list[int]:
    """Seeds from ``0-9``, ``0,3,7`` or both, in the order in which they are written.

    Raises
    ------
    UsageError
        When it says something else, a range counts down, a seed comes twice, or there are too many.
    """
    seeds: list[int] = []
    for entry in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", entry, re.ASCII)
        if not found or int(found[2] or found[1]) >= SEEDS:
            why = f"{entry.strip()!r} is neither a seed nor a range of seeds."
            raise UsageError(f"--seeds {text} cannot be read.", why, "Write whole numbers from 0: 0-9, or 0,3,7.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise UsageError(f"--seeds {text} cannot be read.", f"{entry} counts down.", f"Write {last}-{first}.")
        if last - first >= MOST_SEEDS or len(seeds) + last - first >= MOST_SEEDS:
            raise UsageError(f"--seeds {text} are too many.", "", f"Train at most {MOST_SEEDS:,} at a time.")
        seeds += range(first, last + 1)
    if twice := [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]:
        raise UsageError(f"--seeds {text} names {twice[0]} twice.", "", "Name every seed once.")
    return seeds


def _read_entries(option: str, text: str, number: str) -> list[tuple[str, str]]:
    """Cut ``NAME=NUMBER,...`` into pairs."""
    pairs = []
    for entry in text.split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if not re.fullmatch(number, value):
            remedy = "Write NAME=NUMBER,NAME=NUMBER; sizes are whole and at least 1, weights not negative."
            raise UsageError(f"{option} cannot be read at {entry!r}.", "", remedy)
        pairs.append((name, value))
    return pairs
