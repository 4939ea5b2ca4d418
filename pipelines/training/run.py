"""A run: the folder that training writes and every later command reads. This module owns its layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gated_vae.models.checkpoint import Checkpoint, checkpoints, load_weights
from gated_vae.models.vae import OPEN_CONTEXTS, GatedVAE, GatedVAEConfig
from gated_vae.pairing.stream.loader import is_address
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import digest, read_json, write_json
from gated_vae.preprocessing.store import Store, open_store

RUN_SCHEMA_VERSION = 2


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, saved as ``config.json``.

    Attributes
    ----------
    store:
        The store's folder, or the address of a pairing service.
    model:
        Partitions, network, objective and gate.
    steps, epochs:
        How long to train: exactly one of them is given.
    batch_size:
        Pairs in a step, over all ranks.
    lr, schedule:
        Adam's rate and how it goes on: ``constant``, or ``cosine`` down to nothing at the last step.
    seed:
        Decides initial weights, order of the pairs and noise.
    precision:
        ``fp32`` or ``bf16``.
    compiled:
        Whether the step was compiled, which rounds otherwise in the last bits.
    open_every:
        Above 0, every so-many-th round over the partitions is an ordinary one: target = input, the gate open.
    own_share:
        With the contexts ``partners`` and ``composed``: how often a partition's code comes from the target itself (or from the
        image that its target is composed from first) instead, 0 .. 1, at the first step; it falls evenly to 0 half-way through.
    decoder_only:
        Fine-tuning: the encoder stays as it is, targets are the inputs.
    initial, initial_step:
        The run whose weights to start from, and how far it was trained (fine-tuning).
    """

    store: str
    model: GatedVAEConfig
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128
    lr: float = 1e-4
    schedule: str = "constant"
    seed: int = 0
    precision: str = "fp32"
    compiled: bool = False
    open_every: int = 0
    own_share: float = 0.0
    decoder_only: bool = False
    initial: str | None = None
    initial_step: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("How long to train is unclear.", "", "Give either --epochs or --steps.")
        if (self.steps or self.epochs or 0) < 1 or self.batch_size < 2 or not self.lr > 0:
            why = f"Got {self.epochs or self.steps} epochs or steps, batch size {self.batch_size}, rate {self.lr}."
            raise GatedVAEError(
                "Training cannot be set up.", why, "Batches need 2 pairs or more, the rest to be positive."
            )
        if self.open_every < 0 or self.open_every == 1:
            remedy = "Give 2 or more for every second round and so on, 0 for none, or --no-gate for all."
            raise GatedVAEError(f"--open-every {self.open_every} leaves no gated step.", "", remedy)
        if not 0 <= self.own_share <= (1 if self.model.context in OPEN_CONTEXTS else 0):
            why = f"Got {self.own_share:g} with the context {self.model.context}."
            raise GatedVAEError(
                "The own share cannot be used.", why, f"Give 0 .. 1, with --context {' or '.join(OPEN_CONTEXTS)} only."
            )
        if self.schedule not in ("constant", "cosine"):
            raise GatedVAEError(f"There is no schedule {self.schedule!r}.", "", "Choose constant or cosine.")

    @property
    def together(self) -> bool:
        """Whether a step takes pairs of all partitions at once, instead of one after the other."""
        return self.model.gate and self.model.context == "partners" and not self.decoder_only

    @property
    def composed(self) -> bool:
        """Whether the targets of a step are composed of the factors of its images."""
        return self.model.gate and self.model.context == "composed" and not self.decoder_only

    def pairs_per_rank(self, ranks: int) -> int:
        """Each rank's pairs in a step; refused where they cannot be equally many, or must not be parted."""
        if ranks > 1 and self.composed:
            why = "Targets are composed of the images of a batch, which must be in one place."
            raise GatedVAEError(f"{ranks} ranks cannot share a batch.", why, "Use one worker, or --context partners.")
        if ranks > 1 and self.compiled:
            why = "What ranks tell each other within a step cannot be compiled."
            raise GatedVAEError(f"{ranks} ranks cannot share a compiled step.", why, "Use one worker, or no --compile.")
        if self.batch_size % ranks:
            why = f"The batch size {self.batch_size} does not divide by {ranks}."
            raise GatedVAEError(f"{ranks} ranks cannot share a batch.", why, "Choose another --batch-size.")
        return self.batch_size // ranks

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Build from what `to_dict` gave, after a round trip through JSON."""
        return cls(**{**values, "model": GatedVAEConfig.from_dict(values["model"])})


@dataclass(frozen=True)
class Run:
    """A run folder and the configuration in it.

    Attributes
    ----------
    store_digest, pairs_digest:
        Of the samples it was trained on, and of how their pairs were made (see `digest_pairs`).
    moved:
        Where its store lies if not where it was trained from.
    """

    path: Path
    config: TrainConfig
    store_digest: str
    pairs_digest: str
    moved: Path | None = None

    @property
    def figures(self) -> Path:
        """Where pictures go."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """``metrics.json``; its ``train`` entry is written when training is done."""
        return self.path / "metrics.json"

    def read_metrics(self) -> dict[str, Any]:
        """What has been measured so far, by command."""
        return read_json(self.metrics, "Evaluate the run again.") if self.metrics.exists() else {}

    def add_metrics(self, command: str, values: dict[str, Any]) -> None:
        """Write one command's figures beside the others'."""
        write_json(self.metrics, {**self.read_metrics(), command: values})

    def forget_metrics(self) -> None:
        """Remove what has been measured: the weights change."""
        self.metrics.unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint."""
        found = checkpoints(self.checkpoints)
        return found[-1] if found else None

    def newest(self) -> Checkpoint:
        """The newest complete checkpoint; refused where there is none."""
        checkpoint = self.latest()
        if checkpoint is None:
            raise GatedVAEError(f"{self.path} has no checkpoint yet.", "", "Train it first: `pipe train ... --out` it.")
        return checkpoint

    def model(self, device: str = "cpu") -> GatedVAE:
        """The trained model, from the newest checkpoint, ready to encode."""
        checkpoint = self.newest()
        model = GatedVAE(self.config.model)
        with usable(checkpoint):
            load_weights(checkpoint, model)
        return model.to(device).eval()

    def store(self) -> Store:
        """The store it was trained on; refused when that was replaced meanwhile, or is behind a service."""
        if self.moved is None and is_address(self.config.store):
            why = f"It was trained from the service at {self.config.store}, which serves pairs alone."
            remedy = "Give the folder that the service serves, or a copy: --store FOLDER."
            raise GatedVAEError(f"The images of {self.path} are needed.", why, remedy)
        path = self.moved or Path(self.config.store)
        if not path.is_dir():
            remedy = "Say where it is now: --store FOLDER (a relative path starts from this folder)."
            raise GatedVAEError(f"The store of {self.path} is gone.", f"There is no folder {path}.", remedy)
        store = open_store(path)
        if store.manifest["source_digest"] != self.store_digest:
            why = "The store holds other samples than those it was trained on."
            remedy = "Train again, restore the store, or say where it is now: --store FOLDER."
            raise GatedVAEError(f"{self.path} does not fit {store.path}.", why, remedy)
        return store


@contextmanager
def usable(checkpoint: Checkpoint) -> Iterator[None]:
    """Say what to do about a checkpoint that cannot be used."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = (
            f"Delete {checkpoint.weights.name}, then run the same command again: training goes on from an earlier one."
        )
        raise GatedVAEError("A checkpoint cannot be used.", f"{error}.", remedy) from None


def _config_path(path: Path) -> Path:
    return path / "config.json"


def open_run(path: Path, store: Path | None = None) -> Run:
    """Open a run folder; its store is at `store` if not where it was trained from.

    Raises
    ------
    GatedVAEError
        When it is missing, damaged or of another schema version.
    """
    remedy = "Train one with `pipe train STORE --out RUN`."
    values = read_json(_config_path(path), remedy)
    if values.get("schema_version") != RUN_SCHEMA_VERSION:
        why = f"It has schema version {values.get('schema_version')}; this version reads {RUN_SCHEMA_VERSION}."
        raise GatedVAEError(f"{path} cannot be opened.", why, "Train it again.")
    try:
        config = TrainConfig.from_dict(values["train"])
        return Run(path, config, values["store_digest"], values["pairs_digest"], store)
    except (KeyError, TypeError, ValueError) as error:
        raise GatedVAEError(f"{_config_path(path)} is damaged.", str(error), remedy) from None


def digest_pairs(store: Store, partitions: Iterable[str]) -> str:
    """SHA-256 of how the pairs of some partitions were made, and of what became of them."""
    return digest(*(json.dumps([name, store.partitions.get(name)], sort_keys=True) for name in partitions))


def run_of(path: Path, config: TrainConfig, store: Store) -> Run:
    """The run that training on `store` makes: what `open_run` gives then."""
    return Run(path, config, store.manifest["source_digest"], digest_pairs(store, config.model.latent))


def create_run(path: Path, config: TrainConfig, store: Store, *, extend: bool = False) -> Run:
    """Write ``config.json`` for a new run, or open the one that is there when it says the same.

    Parameters
    ----------
    store:
        The store it is trained on, or what a service tells of its own.
    extend:
        Accept more steps or epochs than the run's there, and record them; where nothing depends on how many there are.

    Raises
    ------
    GatedVAEError
        When the folder holds a run of another configuration.
    """
    run = run_of(path, config, store)
    values = {
        "schema_version": RUN_SCHEMA_VERSION,
        "store_digest": run.store_digest,
        "pairs_digest": run.pairs_digest,
        "train": config.to_dict(),
    }
    if not _config_path(path).exists():
        write_json(_config_path(path), values)
        return run
    there = open_run(path)
    as_long = replace(config, steps=there.config.steps, epochs=there.config.epochs)
    if extend and there != run and there == replace(run, config=as_long):
        _check_longer(path, config, there.config)
        write_json(_config_path(path), values)
        return run
    refuse_another(there, run, "Choose another --out, or --overwrite.")
    return there


def refuse_another(there: Run, run: Run, remedy: str) -> None:
    """Refuse the run that is there when it is not `run`, saying in what they differ."""
    if there != run:
        raise GatedVAEError(f"{there.path} holds another run.", f"It differs in: {_why(there, run)}.", remedy)


def _check_longer(path: Path, config: TrainConfig, there: TrainConfig) -> None:
    """Refuse to train on where it would not be the same as having trained for so long from the start."""
    asked = f"It is of {there.steps or there.epochs} {'steps' if there.steps else 'epochs'}."
    if config.schedule != "constant" or config.own_share:
        why = f"{asked} Its rate or own share falls to the last step."
        raise GatedVAEError(f"{path} cannot go on beyond its end.", why, "Choose another --out, or --overwrite.")
    if (config.steps or 0) < (there.steps or 0) or (config.epochs or 0) < (there.epochs or 0):
        raise GatedVAEError(f"{path} is longer already.", asked, "Ask for more, in the same unit.")


def _why(there: Run, here: Run) -> str:
    found = _differences(there.config.to_dict(), here.config.to_dict())
    if there.store_digest != here.store_digest:
        found.append("the store was made anew")
    elif there.pairs_digest != here.pairs_digest:
        found.append("the store's pairs were made anew")
    return ", ".join(found)


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in here:
        if isinstance(here[key], dict) and isinstance(there.get(key), dict):
            found += _differences(there[key], here[key], f"{prefix}{key}.")
        elif there.get(key) != here[key]:
            found.append(f"{prefix}{key} ({there.get(key)} there, {here[key]} here)")
    return found
