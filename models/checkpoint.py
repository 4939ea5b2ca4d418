"""Checkpoints as safetensors: weights in one file, everything else that training needs in a second beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

Tensors = Mapping[str, torch.Tensor]
AtomicPath = Callable[[Path], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Checkpoint:
    """One saved step of a run: `weights` (the model) and `state` (optimiser and position)."""

    step: int
    weights: Path
    state: Path

    @classmethod
    def at(cls, folder: Path, step: int) -> Checkpoint:
        """The checkpoint of `step` in `folder`, whether it exists or not."""
        stem = f"step-{step:09d}"
        return cls(step, folder / f"{stem}.safetensors", folder / f"{stem}.state.safetensors")


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a folder, oldest first; somebody may have taken a state away, without which training cannot go on."""
    steps = sorted(int(path.name[5:14]) for path in folder.glob("step-" + "[0-9]" * 9 + ".safetensors"))
    return [Checkpoint.at(folder, step) for step in steps]


def save_checkpoint(
    checkpoint: Checkpoint,
    weights: Tensors,
    slots: Tensors,
    position: Mapping[str, Any],
    atomic_path: AtomicPath,
) -> None:
    """Save a model, its optimiser and their position; the weights come last, so a checkpoint that has them is whole.

    Each file's metadata holds the SHA-256 of its tensors, in a single entry: safetensors writes several in random order.

    Parameters
    ----------
    weights:
        The model's `state_dict`.
    slots:
        What the optimiser keeps, as `optimiser_slots` gives it.
    position:
        What is not a tensor (step, loader state): kept as JSON in the metadata.
    atomic_path:
        How a file is written so that it is there whole or not at all.
    """
    slots, weights = ({name: value.cpu().contiguous() for name, value in given.items()} for given in (slots, weights))
    # As bytes: safetensors writes files under temporary names of its own, which a death would leave behind.
    with atomic_path(checkpoint.state) as path:
        path.write_bytes(save(slots, {"position": json.dumps({**position, "sha256": _digest(slots)})}))
    with atomic_path(checkpoint.weights) as path:
        path.write_bytes(save(weights, {"sha256": _digest(weights)}))


def optimiser_slots(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser keeps of each trained parameter, as ``PARAMETER/SLOT``."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def read_state(checkpoint: Checkpoint) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimiser's tensors and the position; `FileNotFoundError` when the file is missing, `ValueError` when it is damaged."""
    if not checkpoint.state.exists():
        raise FileNotFoundError(f"{checkpoint.state} is missing: what the optimiser keeps, and the loader's position")
    tensors, metadata = _read(checkpoint.state)
    try:
        position = dict(json.loads(metadata["position"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint.state} has no position: {error}") from error
    _compare(checkpoint.state, tensors, position.pop("sha256", None))
    return tensors, position


def weights_digest(checkpoint: Checkpoint) -> str:
    """The SHA-256 that the weights were saved with; `ValueError` when the file is damaged."""
    try:
        with safe_open(checkpoint.weights, framework="pt") as file:
            return str((file.metadata() or {}).get("sha256"))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{checkpoint.weights} cannot be loaded: {str(error).splitlines()[0]}") from error


def prune(folder: Path, keep: int) -> None:
    """Keep the newest `keep` checkpoints; remove older ones, and what a death has left of others."""
    kept = {path for checkpoint in checkpoints(folder)[-keep:] for path in (checkpoint.weights, checkpoint.state)}
    for path in sorted(folder.glob("step-*.safetensors"), key=lambda path: path.name.endswith(".state.safetensors")):
        if path not in kept:  # the weights first: without them a checkpoint does not count
            path.unlink()
    for path in folder.glob(".step-*.partial"):
        path.unlink()


def _digest(tensors: Tensors) -> str:
    """SHA-256 over tensors in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; `ValueError` where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return load_file(path), file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error


def _compare(path: Path, tensors: Tensors, expected: str | None) -> None:
    if _digest(tensors) != expected:
        raise ValueError(f"{path} cannot be loaded: its tensors were changed after they were saved")


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load a checkpoint's weights into a model of the same configuration.

    Raises
    ------
    ValueError
        When the file is damaged or belongs to another model.
    """
    tensors, metadata = _read(checkpoint.weights)
    _compare(checkpoint.weights, tensors, metadata.get("sha256"))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint.weights} does not fit the model: {' '.join(str(error).split())[:200]}"
        ) from error


def load_state(checkpoint: Checkpoint, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Load the optimiser's state; return the position.

    Raises
    ------
    FileNotFoundError
        When the file is missing.
    ValueError
        When it is damaged or belongs to another model.
    """
    tensors, position = read_state(checkpoint)
    try:
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for slot, value in tensors.items():
            name, _, key = slot.rpartition("/")
            state.setdefault(trained.index(name), {})[key] = value  # an optimiser numbers its parameters
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{checkpoint.state} does not fit the model: {' '.join(str(error).split())[:200]}") from error
    return position
