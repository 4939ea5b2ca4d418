"""A run, which training writes and every later command reads: what lies in its folder, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from gated_vae.models.checkpoint import Checkpoint, checkpoints, load_state, prune, read_weights, weights_digest
from gated_vae.models.registry import NotRegisteredError
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, outline
from gated_vae.pairing.stream.address import is_address
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import (
    check_name,
    fits,
    is_ours,
    is_there,
    read_json,
    real,
    refuse_ours,
    remove,
    write_json,
)
from gated_vae.preprocessing.store import Store, images_path, open_store

RUN_SCHEMA_VERSION = 5
CHECKPOINTS, FIGURES = "checkpoints", "figures"
TUNED = "finetuned"  # in a run's folder, the run that starts from its weights
REPLACED = ".replaced"  # the run that was there before, until this one is trained
_KEPT = 2  # checkpoints
TOLD_RUNS = 10  # of several in one folder, in a message
_LOSSES = {str: {str: (int, float)}}  # by label and term
_METRICS = {"train": {"steps": int, "losses": _LOSSES}, "evaluate": dict}
_VALID = {"step": int, "losses": _LOSSES, "best": int, "since": int, "history": {str: (int, float)}}
_POSITION = {"step": int, "loader": {str: int}, "losses": _LOSSES, "sums": _LOSSES}
_CONFIG = {"train": dict, **dict.fromkeys(("store_digest", "pairs_digest", "store_from_here"), str)}


@dataclass(frozen=True)
class Run:
    """A run folder and the configuration in it."""

    path: Path
    config: TrainConfig
    store_digest: str  # of the images it was trained on
    pairs_digest: str  # of their labels, and of how the pairs of its partitions were made
    from_here: str = field(default="", compare=False)  # the way from its folder to its store, for when both have moved
    moved: Path | None = field(default=None, compare=False)  # where its store is said to lie
    results: Path | None = field(default=None, compare=False)  # where measures and pictures go if not into its folder

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` says of it: paths as they are from anywhere."""
        config = self.config
        store = config.store if is_address(config.store) else str(Path(config.store).absolute())
        initial = config.initial and str(Path(config.initial).absolute())
        return {
            "schema_version": RUN_SCHEMA_VERSION,
            "store_digest": self.store_digest,
            "pairs_digest": self.pairs_digest,
            "store_from_here": self.from_here,
            "train": {**config.to_dict(), "store": store, "initial": initial},
        }

    @property
    def written(self) -> Path:
        """Where what is measured and drawn goes."""
        return self.results or self.path

    @property
    def figures(self) -> Path:
        """Where pictures go."""
        return self.written / FIGURES

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        """``metrics.json``; its ``train`` entry is written when training is done."""
        return self.path / "metrics.json"

    def read_metrics(self) -> dict[str, Any]:
        """What has been measured so far, by command; elsewhere what was measured of these weights."""
        own, others = (_read_metrics(folder / "metrics.json") for folder in (self.path, self.written))
        return {**own, **others} if others.get("train") == own.get("train") else own

    def finish(self, steps: int, losses: dict[str, Any], valid: dict[str, Any]) -> None:
        """File that training is done, unless that was filed already; what was measured of a checkpoint on the way goes."""
        if self.read_metrics().get("train", {}).get("steps") != steps:
            write_json(self.metrics, {"train": {"steps": steps, "losses": losses, **valid}})
        self.tidy()

    def prune(self) -> None:
        """Remove its older checkpoints."""
        prune(self.checkpoints, _KEPT)

    def tidy(self) -> None:
        """Remove what a trained run need not keep: its older checkpoints, and the run that it replaces."""
        self.prune()
        remove(self.path / REPLACED)

    def is_trained(self, steps: int) -> bool:
        """Whether training has filed so many steps, or that it stopped early, and has saved the weights after them."""
        latest, filed = self.latest(), self.read_metrics().get("train", {}).get("steps")
        return latest is not None and latest.step == filed and (filed == steps or self.stopped_early())

    def stopped_early(self) -> bool:
        """Whether training has filed that as many validations in a row as it was to wait for were no better."""
        since: int = self.read_metrics().get("train", {}).get("valid", {}).get("since", 0)
        return self.config.stops_after(since)

    def add_metrics(self, command: str, values: dict[str, Any]) -> None:
        """Write one command's figures beside the others'."""
        write_json(self.written / "metrics.json", {**self.read_metrics(), command: values})

    def writing_to(self, out: Path | None) -> Run:
        """The run with another folder for what is measured and drawn; refused where nothing can be written there, or to its own.

        Another store or run is no place for it, nor is a folder in one.
        """
        folder = out or self.path
        if out and real(out) != real(self.path):
            refuse_ours(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for place in filter(Path.exists, (folder, folder / FIGURES)):
                TemporaryFile(dir=place).close()
        except OSError as error:
            why = f"{os.strerror(error.errno or 0)}."
            remedy = "Give another folder: --out FOLDER."
            raise GatedVAEError(f"Nothing can be written to {folder}.", why, remedy) from None
        return replace(self, results=out)

    def forget_metrics(self) -> None:
        """Remove what has been measured: the weights change."""
        self.metrics.unlink(missing_ok=True)

    def saved_steps(self) -> set[int]:
        """The steps from whose checkpoints training can go on."""
        return {checkpoint.step for checkpoint in checkpoints(self.checkpoints)}

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, from which training goes on."""
        found = checkpoints(self.checkpoints)
        return found[-1] if found else None

    def kept(self) -> Checkpoint:
        """The checkpoint whose weights are used: the newest or, if it keeps the best, that; refused where there is none."""
        kind = "best" if self.config.keeps_best else "step"
        found = checkpoints(self.checkpoints, kind)
        if not found and self.latest() is not None:
            why = "The first validation saves them, which is still to come, or somebody has removed them."
            remedy = "Run the same `pipe train` again; where it was finished, with --overwrite."
            raise GatedVAEError(f"{self.path} has no best weights.", why, remedy)
        if not found:
            raise GatedVAEError(f"{self.path} has no checkpoint yet.", "", "Train it first: `pipe train ... --out` it.")
        return found[-1]

    def outline(self) -> GatedVAE:
        """The model without memory of its own, what it trains marked; refused where there can be none."""
        return outline_of(self.config, f"{config_path(self.path)} is damaged.", "Train it again.")

    def model(self, device: str = "cpu") -> GatedVAE:
        """The trained model, with the weights that are kept, ready to encode."""
        checkpoint, outline = self.kept(), self.outline()
        with usable(checkpoint):
            weights = read_weights(checkpoint, outline)
        model = GatedVAE(self.config.model)
        model.load_state_dict(weights)
        return model.to(device).eval()

    def weights_digest(self) -> str:
        """The SHA-256 of the weights that are kept."""
        checkpoint = self.kept()
        with usable(checkpoint):
            return weights_digest(checkpoint)

    def refuse_network(self, model: GatedVAEConfig) -> None:
        """Raise `GatedVAEError` where its weights fit no such model."""
        mine = self.config.model
        for key in ("network", "hidden", "image_shape", "latent", "likelihood"):
            there, wanted = getattr(mine, key), getattr(model, key)
            if there != wanted:
                why = f"Its {key} is {there}, not {wanted}."
                remedy = "Start from a run of the same network."
                raise GatedVAEError(f"The weights of {self.path} do not fit.", why, remedy)

    def using(self, config: TrainConfig) -> Run:
        """The run with its store and initial run where an equal configuration has them."""
        return replace(self, config=replace(self.config, store=config.store, initial=config.initial))

    def store_path(self) -> Path:
        """Where its store is said to lie, or was, or should be if it has moved together with the run."""
        if self.moved is not None:
            return self.moved
        recorded, beside = Path(self.config.store), self.path / self.from_here
        return beside if self.from_here and beside.is_dir() and not recorded.is_dir() else recorded

    def store(self) -> Store:
        """The store it was trained on; refused when that was replaced meanwhile, or is behind a service."""
        path = self.store_path()
        if not path.is_dir() and self.moved is None and is_address(self.config.store):
            why = f"It was trained from the service at {self.config.store}, which serves pairs alone."
            remedy = "Give the folder that the service serves, or a copy: --store FOLDER."
            raise GatedVAEError(f"The images of {self.path} are needed.", why, remedy)
        if not path.is_dir():
            remedy = "Say where it is now: --store FOLDER."
            raise GatedVAEError(f"The store of {self.path} is gone.", f"There is no folder {path}.", remedy)
        store = open_store(path)
        if store.digest_of(images_path) != self.store_digest:
            why = "The store holds other images than those it was trained on."
            remedy = "Train again, restore the store, or say where it is now: --store FOLDER."
            raise GatedVAEError(f"{self.path} does not fit {store.path}.", why, remedy)
        return store


@contextmanager
def usable(checkpoint: Checkpoint) -> Iterator[None]:
    """Say what to do about a checkpoint that cannot be used."""
    try:
        yield
    except FileNotFoundError as error:
        remedy = (
            f"Put it back, or delete {checkpoint.weights.name} and train from the checkpoint before it or anew."
            " Codes, scores and pictures need the weights alone."
        )
        raise GatedVAEError("Training cannot go on.", f"{error}.", remedy) from None
    except ValueError as error:
        name = checkpoint.weights.name
        remedy = f"Delete {name}, then run the same command again: training goes on from an earlier one."
        if name.startswith("best"):
            remedy = "Train again with --overwrite: no other checkpoint has the best weights."
        raise GatedVAEError("A checkpoint cannot be used.", f"{error}.", remedy) from None


def load_checkpoint(checkpoint: Checkpoint, model: GatedVAE, optimiser: torch.optim.Adam) -> dict[str, Any]:
    """Load the weights, and what the optimiser keeps; return the position after the checkpoint's step."""
    with usable(checkpoint):
        model.load_state_dict(read_weights(checkpoint, model))
        position = load_state(checkpoint, model, optimiser)
        check_position(checkpoint, position)
    return position


def check_position(checkpoint: Checkpoint, position: dict[str, Any]) -> None:
    """Refuse, with a `ValueError`, what cannot be the position after a checkpoint's step."""
    counted = fits(position, _POSITION) and all(sums.get("steps", 0) >= 1 for sums in position["sums"].values())
    if not counted or not _is_validated(position) or position["step"] != checkpoint.step:
        raise ValueError(f"{checkpoint.state} has another position than that of step {checkpoint.step}")


def _is_validated(values: dict[str, Any]) -> bool:
    """Whether what validations have found is that, where they are told of."""
    if "valid" not in values:
        return True
    valid = values["valid"]
    known = fits(valid, _VALID) and {*valid} == {*_VALID}
    return known and {str(valid["step"]), str(valid["best"])} <= {*valid["history"]}


def outline_of(config: TrainConfig, what: str, remedy: str) -> GatedVAE:
    """The model that a configuration means, on the meta device; `GatedVAEError` where there can be none."""
    try:
        model = outline(config.model, config.precision)
    except (ValueError, RuntimeError) as error:
        raise GatedVAEError(what, str(error), remedy) from None
    model.encoder.requires_grad_(requires_grad=not config.decoder_only)
    return model


def _read_metrics(path: Path) -> dict[str, Any]:
    """What metrics.json holds; nothing where there is none."""
    if not is_there(path):
        return {}
    remedy = "Remove it, then run the same `pipe train` again, which has little left to do, and `pipe evaluate`."
    metrics = read_json(path, remedy)
    known = metrics.keys() <= _METRICS.keys() and fits(metrics, {name: _METRICS[name] for name in metrics})
    if not known or not _is_validated(metrics.get("train", {})):
        raise GatedVAEError(f"{path} cannot be used.", "It is not what training and evaluating write.", remedy)
    return metrics


def config_path(path: Path) -> Path:
    """What says of a folder that it is a run, and which."""
    return path / "config.json"


def open_run(path: Path, store: Path | None = None) -> Run:
    """Open a run folder; its store is at `store` if not where it was trained from.

    `GatedVAEError` when it is missing, damaged or of another schema version, or its path is not UTF-8.
    """
    check_name(path)
    _refuse_no_run(path)
    remedy = "Train one with `pipe train STORE --out RUN`."
    values = read_json(config_path(path), remedy)
    if values.get("schema_version") != RUN_SCHEMA_VERSION:
        why = f"It has schema version {values.get('schema_version')}; this version reads {RUN_SCHEMA_VERSION}."
        raise GatedVAEError(f"{path} cannot be opened.", why, "Train it again.")
    what = f"{config_path(path)} is damaged."
    if not fits(values, _CONFIG):
        raise GatedVAEError(what, f"Its {', '.join(_CONFIG)} cannot be what it says.", remedy)
    try:
        config = TrainConfig.from_dict(values["train"])
    except NotRegisteredError as error:
        remedy = "Use the script that adds it, or import that first (docs/methods.md)."
        raise GatedVAEError(f"{path} cannot be opened.", f"Nothing here is called {error.name!r}.", remedy) from None
    except (TypeError, ValueError, GatedVAEError) as error:
        raise GatedVAEError(what, str(error), remedy) from None
    return Run(path, config, values["store_digest"], values["pairs_digest"], values["store_from_here"], store)


def _refuse_no_run(path: Path) -> None:
    """Say what a folder is that is taken for a run by mistake: a store, or the folder of runs of several seeds."""
    if config_path(path).exists():
        return
    if is_ours(path):
        remedy = f"Give the --out of `pipe train {path}`."
        raise GatedVAEError(f"{path} is no run but a store.", "", remedy)
    if runs := sorted(inner.parent.name for inner in path.glob("*/config.json") if is_ours(inner.parent)):
        why = f"They are {', '.join(runs[:TOLD_RUNS])}{' ...' * (len(runs) > TOLD_RUNS)}."
        raise GatedVAEError(f"{path} is no run, but holds some.", why, f"Give one of them: {path / runs[0]}.")


def recorded(path: Path) -> TrainConfig | None:
    """The configuration of the run in a folder; None where there is none."""
    return open_run(path).config if config_path(path).exists() else None
