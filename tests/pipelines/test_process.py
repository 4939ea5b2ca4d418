"""Choosing a device by its name, and the precision that suits it."""

from __future__ import annotations

import pytest
import torch

from gated_vae.pipelines import process
from gated_vae.pipelines.process import choose_device, choose_precision
from gated_vae.preprocessing.errors import GatedVAEError


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, chosen in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == chosen


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("cpu") == "cpu"
    for name in ("cuda", "cuda:1", "gpu", ""):
        with pytest.raises(GatedVAEError, match="There is no"):
            choose_device(name)


@pytest.mark.parametrize(
    ("tiles", "avx512", "vendor", "chosen"),
    [
        (True, True, "GenuineIntel", "bf16"),
        (False, True, "GenuineIntel", "fp32"),  # slower than float32: measured
        (False, True, "AuthenticAMD", "bf16"),
        (False, False, "AuthenticAMD", "fp32"),
        (False, False, "", "fp32"),
    ],
)
def test_auto_takes_the_precision_whose_products_are_faster(
    monkeypatch: pytest.MonkeyPatch, tiles: bool, avx512: bool, vendor: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(process, "_vendor", lambda: vendor)
    assert choose_precision("auto", "cpu") == chosen
    assert choose_precision("fp32", "cpu") == "fp32"
    assert choose_precision("bf16", "cpu") == "bf16"
