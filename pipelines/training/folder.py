"""How a run's folder is begun, gone on with beyond its end, or given to another run."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from gated_vae.models.checkpoint import KINDS
from gated_vae.models.methods.base import self_reconstruction_at
from gated_vae.pairing.stream.address import is_address
from gated_vae.pairing.stream.batches import pairs_digest
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import (
    CHECKPOINTS,
    FIGURES,
    REPLACED,
    TUNED,
    Run,
    config_path,
    open_run,
)
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import (
    is_there,
    locked,
    read_json,
    real,
    refuse_filled,
    refuse_links,
    refuse_overlap,
    remove,
    write_json,
)
from gated_vae.preprocessing.store import Store, images_path

_MADE = (  # of former weights
    *("metrics.json", "report.html", "MODEL_CARD.md", "events.out.tfevents.*", f"{FIGURES}/*.png"),
    *(f"{CHECKPOINTS}/{name}" for kind in KINDS for name in (f"{kind}-*.safetensors", f".{kind}-*.partial")),
)


def run_of(path: Path, config: TrainConfig, store: Store) -> Run:
    """The run that training on `store` makes: what `open_run` gives then."""
    from_here = "" if is_address(config.store) else os.path.relpath(config.store, path)
    return Run(path, config, store.digest_of(images_path), pairs_digest(store, config.model.latent), from_here)


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
    if not is_there(config_path(path)):
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
    there = is_there(config_path(path))
    if there and overwrite:
        _set_aside(path)
    if not there or overwrite or open_run(path).to_dict() != run.to_dict():
        write_json(config_path(path), run.to_dict())
    return run


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


def _has_its_store(run: Run) -> bool:
    try:
        run.store()
    except GatedVAEError:
        return False
    return True


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
    return config_path(path).exists() and "store_digest" in read_json(config_path(path), "Choose another --out.")


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
    kept = config_path(before).exists()
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
        write_json(config_path(before), read_json(config_path(path), "Choose another --out."))


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
            found += [*_own(tuned), config_path(tuned), tuned / ".lock"]
    return found
