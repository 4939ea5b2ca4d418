"""Checkpoints as safetensors: weights in one file, everything else that training needs in a second beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

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

    def remove(self) -> None:
        """Delete it, the weights first: without them it does not count."""
        self.weights.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints of a folder, oldest first."""
    steps = sorted(int(path.name[5:14]) for path in folder.glob("step-" + "[0-9]" * 9 + ".safetensors"))
    found = [Checkpoint.at(folder, step) for step in steps]
    return [checkpoint for checkpoint in found if checkpoint.state.exists()]


def save_checkpoint(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    position: Mapping[str, Any],
    atomic_path: AtomicPath,
) -> None:
    """Save model, optimiser and position; the weights come last, so a checkpoint that has them is whole.

    Parameters
    ----------
    position:
        What is not a tensor (step, loader state): kept as JSON in the metadata.
    atomic_path:
        How a file is written so that it is there whole or not at all.
    """
    names = [name for name, _ in model.named_parameters()]
    tensors = {
        f"{names[index]}/{key}": value.contiguous()
        for index, slots in optimiser.state_dict()["state"].items()
        for key, value in slots.items()
    }
    with atomic_path(checkpoint.state) as path:
        save_file(tensors, path, metadata={"position": json.dumps(position)})
    with atomic_path(checkpoint.weights) as path:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load a checkpoint's weights into a model of the same configuration.

    Raises
    ------
    ValueError
        When the file is damaged or belongs to another model.
    """
    try:
        model.load_state_dict(load_file(checkpoint.weights))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{checkpoint.weights} cannot be loaded: {str(error).splitlines()[0]}") from error


def load_state(checkpoint: Checkpoint, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Load the optimiser's state; return the position.

    Raises
    ------
    ValueError
        When the file is damaged or belongs to another model.
    """
    try:
        with safe_open(checkpoint.state, framework="pt") as file:
            position = json.loads(file.metadata()["position"])
        tensors = load_file(checkpoint.state)
        slots = [name.rpartition("/") for name in tensors]
        index = {name: number for number, (name, _) in enumerate(model.named_parameters())}
        state: dict[int, dict[str, torch.Tensor]] = {}
        for (owner, _, key), value in zip(slots, tensors.values(), strict=True):
            state.setdefault(index[owner], {})[key] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint.state} cannot be loaded: {error}") from error
    return dict(position)
