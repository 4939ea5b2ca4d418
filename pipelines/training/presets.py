"""Named starting points for training, each a set of defaults that options override."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gated_vae.models.objectives import ObjectiveConfig
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.store import Store

PIXELS = 64 * 64  # of the images that the presets' beta is meant for


@dataclass(frozen=True)
class Preset:
    """Defaults of one kind of training."""

    network: str
    objective: ObjectiveConfig
    latent: dict[str, int]  # sizes by partition name
    latent_else: int  # size of a partition that is not named above
    lr: float
    epochs: int
    schedule: str = "cosine"  # so that batch normalisation's statistics settle before the model is used
    context: str = "input"
    own_share: float = 0.0
    kl_weights: Mapping[str, float] = field(default_factory=dict)

    def objective_for(self, store: Store) -> ObjectiveConfig:
        """The objective for a store's images, beta in proportion to their pixels: a quarter of them earns a quarter of the nats."""
        height, width = store.manifest["image_shape"]
        return replace(self.objective, beta=self.objective.beta * height * width / PIXELS)


# The paper's constants; rates, schedules and lengths are ours, and so is the KL weight for faces: at a plain VAE's 1 all 24
# dimensions die on 2,000 simulated faces (1,440 steps), since a pair in grey tells the decoder a few nats only.
_FACES = Preset("conv", ObjectiveConfig("vae", beta=0.25), {"pose": 6, "expression": 18}, 6, 1e-3, 30)
_SPRITES = {"network": "fc", "latent": {}, "latent_else": 2, "lr": 1e-3, "epochs": 1}
PRESETS = {
    "faces": _FACES,
    "faces-partners": replace(
        _FACES,
        latent={"pose": 4, "expression": 6},
        lr=5e-4,
        epochs=70,
        context="partners",
        own_share=0.5,
        kl_weights={"pose": 0.3, "expression": 0.3},
    ),
    "dsprites-vae": Preset(objective=ObjectiveConfig("vae"), **_SPRITES),  # type: ignore[arg-type]
    "dsprites-beta": Preset(objective=ObjectiveConfig("beta", beta=4.0), **_SPRITES),  # type: ignore[arg-type]
    "dsprites-info": Preset(objective=ObjectiveConfig("info"), **_SPRITES),  # type: ignore[arg-type]
    "dsprites-dip2": Preset(objective=ObjectiveConfig("dip2"), **_SPRITES),  # type: ignore[arg-type]
}
DEFAULT_PRESET = {"celeba": "faces", "dsprites": "dsprites-beta"}


def choose_preset(name: str | None, store: Store) -> Preset:
    """The preset of that name, or the one for the store's kind."""
    name = name or DEFAULT_PRESET.get(store.kind, "faces")
    if name not in PRESETS:
        raise GatedVAEError(f"There is no preset {name!r}.", "", f"Choose from {', '.join(PRESETS)}.")
    return PRESETS[name]


def choose_latent(text: str | None, preset: Preset, store: Store) -> dict[str, int]:
    """Latent sizes by partition, from ``NAME=SIZE,...`` or the preset's for every partition of the store."""
    partitions = list(store.partitions)
    if not partitions:
        raise GatedVAEError(f"{store.path} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
    if text is None:
        return {name: preset.latent.get(name, preset.latent_else) for name in partitions}
    latent = {name: int(size) for name, size in _read_entries("--latent", text, r"[1-9]\d*")}
    if set(latent) != set(partitions) or len(latent) != len(text.split(",")):
        why = f"--latent names {', '.join(latent)}; the store has pairs for {', '.join(partitions)}."
        raise GatedVAEError("Latent sizes and partitions do not match.", why, "Give each partition one size.")
    return latent


def choose_kl_weights(
    text: str | None, latent: Mapping[str, int], default: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Weights by partition from ``NAME=WEIGHT,...``; without a text the default's, for those that there are."""
    if text is None:
        return {name: weight for name, weight in (default or {}).items() if name in latent}
    weights = {name: float(weight) for name, weight in _read_entries("--kl-weights", text, r"\d+(\.\d+)?|\.\d+")}
    unknown = [name for name in weights if name not in latent]
    if unknown:
        why = f"There are {', '.join(latent)}."
        raise GatedVAEError(f"--kl-weights names {unknown[0]}, which is no partition.", why, "Name some of them.")
    return weights


def _read_entries(option: str, text: str | None, number: str) -> list[tuple[str, str]]:
    """Cut ``NAME=NUMBER,...`` into pairs."""
    pairs = []
    for entry in text.split(",") if text else []:
        name, _, value = (part.strip() for part in entry.partition("="))
        if not re.fullmatch(number, value):
            remedy = "Write NAME=NUMBER,NAME=NUMBER; sizes are whole and at least 1, weights not negative."
            raise UsageError(f"{option} cannot be read at {entry!r}.", "", remedy)
        pairs.append((name, value))
    return pairs
