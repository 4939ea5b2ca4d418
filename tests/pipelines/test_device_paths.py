"""A training step on a device other than the processor, without one: on PyTorch's `meta` device, which has shapes and no values.

Tensors of two devices in one operation are an error there as on a GPU, and so is a value that the host asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gated_vae.models.methods.base import BatchKind, StepBatch
from gated_vae.models.registry import METHODS, OBJECTIVES, PRECISIONS
from gated_vae.models.vae import GatedVAE, GatedVAEConfig
from gated_vae.pairing.exact import FactorGrid, pair_exactly
from gated_vae.pairing.stream.loader import PairLoader, load_images
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.trainer import resident_images
from gated_vae.preprocessing.store import open_store
from tests.stores import make_grid_store, make_store

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
    kind = config.method.batches
    inputs = torch.stack([images] * len(LATENT)) if kind == "together" else images
    rows = torch.zeros(len(LATENT), BATCH, dtype=torch.int64, device=META)
    batch = StepBatch(inputs, images, "pose" if kind == "turns" else None, rows if kind == "composed" else None)
    noise = torch.empty(3, BATCH, config.latent_size, device=META)

    def run() -> torch.Tensor:
        loss = model.loss(batch, noise)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return torch.zeros((), dtype=torch.float64) + loss.terms["kl"]  # as the trainer adds them up

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize(
    ("objective", "method"), [("beta", name) for name in METHODS] + [("info", "gate"), ("dip2", "gate")]
)
def test_a_step_stays_on_its_device_and_asks_for_no_value(
    objective: str, method: str, network: str, precision: str
) -> None:
    config = GatedVAEConfig(LATENT, network=network, objective=OBJECTIVES[objective](), method=METHODS[method]())
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


@pytest.mark.parametrize("batches", ["turns", "together", "composed"])
def test_resident_images_make_the_same_batches(
    tmp_path: Path, batches: BatchKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the processor's own memory, in place of a GPU's, copied there in several pieces."""
    monkeypatch.setattr("gated_vae.pairing.stream.loader.PIECE", 7)
    if batches == "composed":
        pair_exactly(make_grid_store(tmp_path / "store", FactorGrid(("a", "b"), (6, 10))), {"a": ("a",), "b": ("b",)})
        store = open_store(tmp_path / "store")
    else:
        store = make_store(tmp_path / "store", 60)
    resident = load_images(store, "cpu")
    assert np.array_equal(resident.numpy(), store.images)
    plain = PairLoader(store.path, 8, batches=batches, itself=lambda step: 0.5 / step)
    ours = PairLoader(store.path, 8, batches=batches, itself=lambda step: 0.5 / step, resident=resident)
    for _ in range(2):
        for batch, expected in zip(ours, plain, strict=True):
            assert batch.partition == expected.partition
            assert ours.state_dict() == plain.state_dict()
            for name in ("input_id", "target_id", "group", "input", "target"):
                assert torch.equal(getattr(batch, name), getattr(expected, name))
            assert (batch.sources is None) == (expected.sources is None) == (batches != "composed")
            assert batch.sources is None or torch.equal(batch.sources, expected.sources)


def test_where_images_are_resident_only_ids_go_to_the_device(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 60)
    loader = PairLoader(store.path, 8, prefetch=0, resident=load_images(store, META))
    with Copies() as copies:
        batch = next(iter(loader))
    assert copies.found == ["aten._to_copy.default"] * 2
    assert (batch.input.device, batch.target.device, batch.target_id.device.type) == (META, META, "cpu")
    assert batch.target.shape == (8, 16, 16)


def test_images_are_resident_on_a_gpu_alone_and_only_where_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", 60)
    model = GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(8, 8))
    config = TrainConfig(str(store.path), model, steps=1)
    loaded: list[str] = []
    monkeypatch.setattr("gated_vae.pipelines.training.trainer.load_images", lambda _, device: loaded.append(device))
    for free in (2 * 60 * 16 * 16, 2 * 60 * 16 * 16 - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1 << 40))
        resident_images(config, store, "cuda:1")
    resident_images(config, store, "cpu")
    resident_images(replace(config, store="grpc://127.0.0.1:8815"), store, "cuda")
    assert loaded == ["cuda:1"]
