from __future__ import annotations

import subprocess
import sys

import pytest

from gated_vae import pairing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, gated_vae.pairing; print([name for name in ('torch', 'faiss', 'numpy', 'pandas') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_stable_names_are_there() -> None:
    assert [getattr(pairing, name).__name__ for name in pairing.__all__] == pairing.__all__
    with pytest.raises(AttributeError, match="no attribute 'draw_partner'"):
        _ = pairing.draw_partner
