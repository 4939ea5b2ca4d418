"""A run: the folder that training writes and every later command reads. This module owns its layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from gated_vae.models.checkpoint import KINDS, Checkpoint, checkpoints, prune, read_weights, weights_digest
from gated_vae.models.methods.base import self_reconstruction_at
from gated_vae.models.registry import NotRegisteredError
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, outline
from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.stream.batches import pairs_digest
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import (
    check_name,
    fits,
    is_ours,
    is_there,
    locked,
    read_json,
    real,
    refuse_filled,
    refuse_links,
    refuse_ours,
    refuse_overlap,
    remove,
    write_json,
)
from gated_vae.preprocessing.store import Store, images_path, open_store

RUN_SCHEMA_VERSION = 5
CHECKPOINTS, FIGURES = "checkpoints", "figures"
TUNED = "finetuned"  # in a run's folder, the run that starts from its weights
REPLACED = ".replaced"  # the run that was there before, until this one is trained
KEPT_CHECKPOINTS = 2
TOLD_RUNS = 10  # of several in one folder, in a message
_MADE = (  # of former weights
    *("metrics.json", "report.html", "MODEL_CARD.md", "events.out.tfevents.*", f"{FIGURES}/*.png"),
    *(f"{CHECKPOINTS}/{name}" for kind in KINDS for name in (f"{kind}-*.safetensors", f".{kind}-*.partial")),
)

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

    def tidy(self) -> None:
        """Remove what a trained run need not keep: its older checkpoints, and the run that it replaces."""
        prune(self.checkpoints, KEPT_CHECKPOINTS)
        remove(self.path / REPLACED)

    def is_trained(self, steps: int) -> bool:
        """Whether training has filed so many steps, or that it stopped early, and has saved the weights after them."""
        latest, filed = self.latest(), self.read_metrics().get("train", {}).get("steps")
        return latest is not None and latest.step == filed and (filed == steps or self.stopped_early())

    def stopped_early(self) -> bool:
        """Whether training has filed that as many validations in a row as it was to wait for were no better."""
        since: int = self.read_metrics().get("train", {}).get("valid", {}).get("since", 0)
        return 0 < self.config.patience <= since

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
        return outline_of(self.config, f"{_config_path(self.path)} is damaged.", "Train it again.")

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


def _config_path(path: Path) -> Path:
    return path / "config.json"


def open_run(path: Path, store: Path | None = None) -> Run:
    """Open a run folder; its store is at `store` if not where it was trained from.

    `GatedVAEError` when it is missing, damaged or of another schema version, or its path is not UTF-8.
    """
    check_name(path)
    _refuse_no_run(path)
    remedy = "Train one with `pipe train STORE --out RUN`."
    values = read_json(_config_path(path), remedy)
    if values.get("schema_version") != RUN_SCHEMA_VERSION:
        why = f"It has schema version {values.get('schema_version')}; this version reads {RUN_SCHEMA_VERSION}."
        raise GatedVAEError(f"{path} cannot be opened.", why, "Train it again.")
    what = f"{_config_path(path)} is damaged."
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
    if _config_path(path).exists():
        return
    if is_ours(path):
        remedy = f"Give the --out of `pipe train {path}`."
        raise GatedVAEError(f"{path} is no run but a store.", "", remedy)
    if runs := sorted(inner.parent.name for inner in path.glob("*/config.json") if is_ours(inner.parent)):
        why = f"They are {', '.join(runs[:TOLD_RUNS])}{' ...' * (len(runs) > TOLD_RUNS)}."
        raise GatedVAEError(f"{path} is no run, but holds some.", why, f"Give one of them: {path / runs[0]}.")


def run_of(path: Path, config: TrainConfig, store: Store) -> Run:
    """The run that training on `store` makes: what `open_run` gives then."""
    from_here = "" if is_address(config.store) else os.path.relpath(config.store, path)
    return Run(path, config, store.digest_of(images_path), pairs_digest(store, config.model.latent), from_here)


def recorded(path: Path) -> TrainConfig | None:
    """The configuration of the run in a folder; None where there is none."""
    return open_run(path).config if _config_path(path).exists() else None


def refuse_place(path: Path, config: TrainConfig) -> None:
    """Refuse a folder for a run that is, holds or lies in what it is made from, or in a store or a run but its own."""
    made_from = [] if is_address(config.store) else [Path(config.store)]
    if config.initial and real(path) == real(Path(config.initial)) / TUNED:
        path = Path(config.initial)
    elif config.initial:
        made_from.append(Path(config.initial))
    refuse_overlap(path, made_from)


def planned_run(path: Path, config: TrainConfig, store: Store, *, extend: bool = False, overwrite: bool = False) -> Run:
    """The run that training makes in a folder, or goes on with wherever its store lies now; nothing is written.

    Parameters
    ----------
    store:
        The store it is trained on, or what a service tells of its own.
    extend:
        Accept more steps or epochs than the run's there, and note where its schedule ended before.
    overwrite:
        Replace the run that is there, whatever it is.

    Raises
    ------
    GatedVAEError
        When the folder holds a run of another configuration, or something else.
    """
    run = run_of(path, config, store)
    if not is_there(_config_path(path)):
        refuse_filled(path, "run")
        return run
    if overwrite:
        if not _is_run(path):
            why = "Its config.json is none of a run."
            raise GatedVAEError(f"{path} cannot be replaced.", why, "Choose another --out.")
        return run
    there = open_run(path)
    place = there if is_address(config.store) or _has_its_store(there) else run  # of the store, to be recorded
    run = replace(run, config=replace(config, earlier=there.config.earlier))
    as_long = replace(run.config, steps=there.config.steps, epochs=there.config.epochs)
    differs_in_length = there != run and there == replace(run, config=as_long)
    if extend and differs_in_length:
        run = replace(run, config=replace(run.config, earlier=_earlier(there, config)))
    else:
        choice = "Add --resume to go on beyond its end, or choose" if differs_in_length else "Choose"
        refuse_another(there, run, f"{choice} another --out. (--overwrite would remove that run.)")
        if place is there:
            return there
    return replace(run.using(place.config), from_here=place.from_here)


def create_run(path: Path, config: TrainConfig, store: Store, *, extend: bool = False, overwrite: bool = False) -> Run:
    """Write ``config.json`` for a new run, or open the one that is there when it says the same: see `planned_run`.

    The run that is replaced lies in ``.replaced`` until the new one is trained.
    """
    run = planned_run(path, config, store, extend=extend, overwrite=overwrite)
    there = is_there(_config_path(path))
    if there and overwrite:
        _set_aside(path)
    if not there or overwrite or _recorded_as(open_run(path)) != _recorded_as(run):
        write_json(_config_path(path), _recorded_as(run))
    return run


def _has_its_store(run: Run) -> bool:
    try:
        run.store()
    except GatedVAEError:
        return False
    return True


def _recorded_as(run: Run) -> dict[str, Any]:
    """What ``config.json`` says: paths as they are from anywhere."""
    config = run.config
    store = config.store if is_address(config.store) else str(Path(config.store).absolute())
    initial = config.initial and str(Path(config.initial).absolute())
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "store_digest": run.store_digest,
        "pairs_digest": run.pairs_digest,
        "store_from_here": run.from_here,
        "train": {**config.to_dict(), "store": store, "initial": initial},
    }


def refuse_another(there: Run, run: Run, remedy: str) -> None:
    """Refuse the run that is there when it is not `run`, saying in what they differ."""
    if there == run:
        return
    found = _differences(_compared(there.config), _compared(run.config))
    if there.config.initial_weights != run.config.initial_weights:
        found.append("the weights that it starts from")
    if there.store_digest != run.store_digest:
        found.append("the store was made anew")
    elif there.pairs_digest != run.pairs_digest:
        found.append("the store's pairs were made anew")
    raise GatedVAEError(f"{there.path} holds another run.", f"It differs in: {', '.join(found)}.", remedy)


def _earlier(there: Run, config: TrainConfig) -> tuple[int, ...]:
    """Where the schedules of a run end that is gone on with; refused where it would not go on.

    Where nothing falls towards its end there is one schedule: it is as if it had been so long from the start.
    """
    before = there.config
    if (config.steps or 0) < (before.steps or 0) or (config.epochs or 0) < (before.epochs or 0):
        why = f"It is of {before.steps or before.epochs} {'steps' if before.steps else 'epochs'}."
        raise GatedVAEError(f"{there.path} is longer already.", why, "Ask for more, in the same unit.")
    if there.stopped_early():
        why = f"It stopped early: {before.patience} validations in a row were no better."
        raise GatedVAEError(
            f"{there.path} does not go on.", why, "Choose another --out, and a larger N in --keep best:N."
        )
    falls = before.schedule != "constant" or self_reconstruction_at(before.model.method, 1, 1)
    return (*before.earlier, before.steps or before.epochs or 0) if falls else before.earlier


def _compared(config: TrainConfig) -> dict[str, Any]:
    values = config.to_dict()
    return {key.name: values[key.name] for key in fields(config) if key.compare and key.name != "initial_weights"}


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in here:
        if isinstance(here[key], dict) and isinstance(there.get(key), dict):
            found += _differences(there[key], here[key], f"{prefix}{key}.")
        elif there.get(key) != here[key]:
            found.append(f"{prefix}{key} ({there.get(key)} there, {here[key]} here)")
    return found


def _is_run(path: Path) -> bool:
    return _config_path(path).exists() and "store_digest" in read_json(_config_path(path), "Choose another --out.")


def _set_aside(path: Path) -> None:
    """Move what a run has in its folder to one in it: first what says that it is trained, the configuration last.

    Where a run lies there already, this one is removed, unless it is trained: then that one goes. Its configuration stays, so
    that what a death leaves is a run still.
    """
    before = path / REPLACED
    own = sorted(_own(path), key=lambda entry: entry != path / "metrics.json")
    moved = {entry: before / entry.relative_to(path) for entry in own}
    refuse_links(path, {before, *(place.parent for place in moved.values())})
    if (path / "metrics.json") in moved:
        remove(before)  # what a death has left of it
    kept = _config_path(before).exists()
    for entry, place in moved.items():
        if kept:
            entry.unlink()
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            entry.rename(place)
    for folder in sorted({entry.parent for entry in own} - {path}, reverse=True):  # the innermost first
        if not any(folder.iterdir()):
            folder.rmdir()
    if not kept:
        write_json(_config_path(before), read_json(_config_path(path), "Choose another --out."))


def _own(path: Path) -> list[Path]:
    """The files that a run has in its folder beside its configuration, those of the run that was fine-tuned in it among them.

    Of a folder that is a link it is the link, not what that leads to.
    """
    links = [path / name for name in (TUNED, FIGURES, CHECKPOINTS) if (path / name).is_symlink()]
    entries = [entry for pattern in _MADE for entry in sorted(path.glob(pattern)) if not entry.is_dir()]
    found = [*links, *(entry for entry in entries if entry.parent not in links)]
    tuned = path / TUNED
    if tuned not in links and _is_run(tuned):
        with locked(tuned):
            found += [*_own(tuned), _config_path(tuned), tuned / ".lock"]
    return found
