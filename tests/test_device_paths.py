"""A training step on a device other than the processor, without one: on PyTorch's `meta` device, which has shapes and no values.

Tensors of two devices in one operation are an error there as on a GPU, and so is a value that the host asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_store
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.objectives import ObjectiveConfig
from models.vae import CONTEXTS, PRECISIONS, GatedVAE, GatedVAEConfig
from pairing.loader import PairLoader

BATCH, LATENT = 8, {"pose": 2, "expression": 3}
META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Operations between devices, other than with a number that lies on the processor (which a GPU takes as an argument)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors if tensor.dim() or tensor.device == META}) > 1:
            self.found.append(str(func))
        return result


def step(config: GatedVAEConfig, precision: str) -> Callable[[], torch.Tensor]:
    model = GatedVAE(config, precision).to(META)
    images = torch.empty(BATCH, 64, 64, dtype=torch.uint8, device=META)
    together = config.context == "partners"
    inputs = torch.stack([images] * len(LATENT)) if together else images
    noise = torch.empty(3, BATCH, config.latent_size, device=META)

    def run() -> torch.Tensor:
        loss = model.loss(inputs, images, None if together else "pose", noise)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return torch.zeros((), dtype=torch.float64) + loss.terms["kl"]  # as the trainer adds them up

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize(
    ("objective", "context"), [("beta", c) for c in CONTEXTS] + [("info", "input"), ("dip2", "input")]
)
def test_a_step_stays_on_its_device_and_asks_for_no_value(
    objective: str, context: str, network: str, precision: str
) -> None:
    config = GatedVAEConfig(LATENT, network=network, objective=ObjectiveConfig(objective), context=context)
    run = step(config, precision)
    with Copies() as copies:
        total = run()
    assert copies.found == []
    assert total.device == META
    assert total.dtype == torch.float64


def test_the_watch_sees_a_copy_and_a_value_asked_for() -> None:
    with Copies() as copies:
        torch.zeros(3).to(META)
    assert copies.found == ["aten._to_copy.default"]
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.zeros((), device=META))


def test_images_for_a_gpu_are_pinned_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no pinned memory without a GPU: what is asked for stands in for it."""
    pinned: list[torch.Tensor] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    path = make_store(tmp_path / "store", 60).path
    batch = next(iter(PairLoader(path, 8, prefetch=0, pin_memory=True)))
    assert [id(tensor) for tensor in pinned] == [id(batch.input), id(batch.target)]
    plain = next(iter(PairLoader(path, 8, prefetch=0)))
    assert len(pinned) == 2
    assert torch.equal(plain.target, batch.target)
