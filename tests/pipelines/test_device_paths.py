"""A training step on a device other than the processor, without one: on PyTorch's `meta` device, which has shapes and no values.

Tensors of two devices in one operation are an error there as on a GPU, and so is a value that the host asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gated_vae.models.methods.base import StepBatch
from gated_vae.models.registry import LIKELIHOODS, METHODS, NETWORKS, OBJECTIVES, PRECISIONS
from gated_vae.models.vae import GatedVAE, GatedVAEConfig

BATCH, LATENT = 8, {"pose": 2, "expression": 3}
META = torch.device("meta")
BOTH = [
    METHODS[name] for name in ("gvae", "ml-vae", "ada-gvae", "ada-ml-vae", "slow-vae")
]  # images of a pair are encoded


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
    kind = config.method.batches
    inputs = torch.stack([images] * len(LATENT)) if kind == "together" else images
    rows = torch.zeros(len(LATENT), BATCH, dtype=torch.int64, device=META)
    batch = StepBatch(inputs, images, "pose" if kind == "turns" else None, rows if kind == "composed" else None)
    if type(config.method) in BOTH:
        batch = batch.both()
    noise = torch.empty(3, BATCH, config.latent_size, device=META)

    def run() -> torch.Tensor:
        loss = model.loss(batch, noise)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return torch.zeros((), dtype=torch.float64) + loss.terms["kl"]  # as the trainer adds them up

    return run


@pytest.mark.parametrize(
    ("objective", "method", "network", "precision"),
    [
        *(("beta", name, network, "bf16") for name in METHODS for network in NETWORKS),
        *(("beta", "gate", network, name) for network in NETWORKS for name in PRECISIONS if name != "bf16"),
        *((name, "gate", "fc", "bf16") for name in ("info", "dip2")),
    ],
)
def test_a_step_stays_on_its_device_and_asks_for_no_value(
    objective: str, method: str, network: str, precision: str
) -> None:
    chosen = {"objective": OBJECTIVES[objective](), "method": METHODS[method]()}
    likelihood = LIKELIHOODS["gaussian" if objective == "info" else "bernoulli"]()
    config = GatedVAEConfig(LATENT, network=network, likelihood=likelihood, **chosen)
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
