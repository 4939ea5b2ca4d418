"""Checkpoints as safetensors: weights in one file, everything else that training needs in a second beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

Tensors = Mapping[str, torch.Tensor]
AtomicFile = Callable[[Path], AbstractContextManager[BinaryIO]]

KINDS = ("step", "best")  # of checkpoints, as their names begin

_HEADER_BYTES = 16 << 20  # of names and shapes, at most
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
_DTYPES |= {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


@dataclass(frozen=True)
class Checkpoint:
    """One saved step of a run: `weights` (the model) and `state` (optimiser and position), which the best step's has not."""

    step: int
    weights: Path
    state: Path

    @classmethod
    def at(cls, folder: Path, step: int, kind: str = "step") -> Checkpoint:
        """The checkpoint of `step` in `folder`, whether it exists or not; of the kind ``best``, the weights kept as such."""
        stem = f"{kind}-{step:09d}"
        return cls(step, folder / f"{stem}.safetensors", folder / f"{stem}.state.safetensors")


def checkpoints(folder: Path, kind: str = "step") -> list[Checkpoint]:
    """The checkpoints of a folder, oldest first; somebody may have taken a state away, without which training cannot go on.

    Of the kind ``best``, each was better than those before it.
    """
    steps = sorted(int(path.name[5:14]) for path in folder.glob(f"{kind}-{'[0-9]' * 9}.safetensors"))
    return [Checkpoint.at(folder, step, kind) for step in steps]


def save_checkpoint(
    checkpoint: Checkpoint,
    weights: Tensors,
    slots: Tensors,
    position: Mapping[str, Any],
    atomic_file: AtomicFile,
    *,
    is_best: bool = False,
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
    atomic_file:
        How a file is written so that it is there whole or not at all.
    is_best:
        Whether to keep the weights as the best so far, too.
    """
    slots, weights = ({name: value.cpu().contiguous() for name, value in given.items()} for given in (slots, weights))
    # As bytes: safetensors writes files under temporary names of its own, which a death would leave behind.
    with atomic_file(checkpoint.state) as file:
        file.write(save(slots, {"position": json.dumps({**position, "sha256": _digest(slots)})}))
    best = Checkpoint.at(checkpoint.weights.parent, checkpoint.step, "best").weights
    data = save(weights, {"sha256": _digest(weights)})
    for path in (best, checkpoint.weights) if is_best else (checkpoint.weights,):
        with atomic_file(path) as file:
            file.write(data)


def optimiser_slots(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser keeps of each trained parameter, as ``PARAMETER/SLOT``."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def weights_digest(checkpoint: Checkpoint) -> str:
    """The SHA-256 that the weights were saved with; `ValueError` when the file is damaged."""
    with _opened(checkpoint.weights) as (_, header):
        return str(header.get("__metadata__", {}).get("sha256"))


def prune(folder: Path, keep: int) -> None:
    """Keep the newest `keep` checkpoints and the best; remove older ones, and what a death has left of others."""
    kept = {path for checkpoint in checkpoints(folder)[-keep:] for path in (checkpoint.weights, checkpoint.state)}
    kept |= {checkpoint.weights for checkpoint in checkpoints(folder, "best")[-1:]}
    found = [path for kind in KINDS for path in folder.glob(f"{kind}-*.safetensors")]
    for path in sorted(found, key=lambda path: path.name.endswith(".state.safetensors")):
        if path not in kept:  # the weights first: without them a checkpoint does not count
            path.unlink()
    for kind in KINDS:
        for path in folder.glob(f".{kind}-*.partial"):
            path.unlink()


def _digest(tensors: Tensors) -> str:
    """SHA-256 over tensors in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    """A safetensors file and its header; `ValueError` where it is damaged, `OSError` where the machine cannot read it.

    Not opened by safetensors, which takes a machine's troubles for missing files, or dies of them.
    """
    try:
        if not path.is_file():  # a pipe would be waited on
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _HEADER_BYTES else None
            if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
                raise ValueError("it has no header")
            yield file, header
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    except (SafetensorError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def _read(path: Path, wanted: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file, read once its header says that they have the names and forms of `wanted`.

    An optimiser trusts what it is given: with a state of another shape it would write beyond its end.
    """
    with _opened(path) as (file, header):
        metadata = header.pop("__metadata__", {})
        found = {name: (entry.get("dtype"), entry.get("shape")) for name, entry in header.items()}
        expected = {name: (_DTYPES[tensor.dtype], [*tensor.shape]) for name, tensor in wanted.items()}
        if found != expected:
            name = min(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            there, here = (_told(forms.get(name)) for forms in (found, expected))
            raise ValueError(f"{name:.100} is {there}, of the model {here}")
        size = file.tell() + sum(tensor.nbytes for tensor in wanted.values())
        if os.fstat(file.fileno()).st_size != size:
            raise ValueError("it is cut, or goes on after its end")
        file.seek(0)
        return load(file.read(size)), metadata


def _told(form: tuple[Any, Any] | None) -> str:
    return "not there" if form is None else f"{form[0]} {form[1]}"[:100]


def _compare(path: Path, tensors: Tensors, expected: str | None) -> None:
    if _digest(tensors) != expected:
        raise ValueError(f"{path} cannot be loaded: its tensors were changed after they were saved")


def read_weights(checkpoint: Checkpoint, model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model of the same configuration, which may be on the meta device: nothing is loaded into it.

    `ValueError` when the file is damaged or belongs to another model.
    """
    tensors, metadata = _read(checkpoint.weights, model.state_dict())
    _compare(checkpoint.weights, tensors, metadata.get("sha256"))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError(f"{checkpoint.weights} has weights that are not finite")
    return tensors


def read_state(checkpoint: Checkpoint, model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What Adam keeps of the parameters that a model trains, as `optimiser_slots` gives it, and the position.

    Parameters
    ----------
    model:
        One of the same configuration, which may be on the meta device.

    Raises
    ------
    FileNotFoundError
        When the file is missing.
    ValueError
        When it is damaged or belongs to another model.
    """
    if not checkpoint.state.exists():
        raise FileNotFoundError(f"{checkpoint.state} is missing: what the optimiser keeps, and the loader's position")
    scalar = torch.empty((), device="meta")
    wanted = {
        f"{name}/{slot}": scalar if slot == "step" else parameter
        for name, parameter in model.named_parameters()
        for slot in ("step", "exp_avg", "exp_avg_sq")
        if parameter.requires_grad
    }
    tensors, metadata = _read(checkpoint.state, wanted)
    try:
        position = dict(json.loads(metadata["position"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{checkpoint.state} has no position: {error}") from error
    _compare(checkpoint.state, tensors, position.pop("sha256", None))
    return tensors, position


def load_state(checkpoint: Checkpoint, model: nn.Module, optimiser: torch.optim.Adam) -> dict[str, Any]:
    """Load Adam's state; return the position. Errors are those of `read_state`."""
    tensors, position = read_state(checkpoint, model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for slot, value in tensors.items():
        name, _, key = slot.rpartition("/")
        state.setdefault(trained.index(name), {})[key] = value  # an optimiser numbers its parameters
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return position
