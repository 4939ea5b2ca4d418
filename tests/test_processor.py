"""Choosing a device by its name."""

from __future__ import annotations

import pytest
import torch

from pipelines.processor import choose_device
from preprocessing.errors import GatedVAEError


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
