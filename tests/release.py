"""PYTHON tests/release.py DIST (`make release`): try a wheel as its users do, in an environment that has nothing else.

The wheel's contents, `pipe --help`, a small run from faces to a report, and the Python of README.md, block by block.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np

import gated_vae

ROOT = Path(__file__).resolve().parents[1]
PIPE = Path(sys.executable).with_name("pipe")
COMMANDS = """
--help
simulate faces --out simulated --n 240 --seed 1
preprocess celeba --openface simulated/processed --identities simulated/identity.txt --size 32 --out faces
cluster faces --pose 6 --expression 6
pair faces --share identity=identity
train faces --out model --preset faces-partners --steps 5
traverse model
report model
"""


def python_of(page: str) -> list[str]:
    """The Python of a page, a text for each block; of a session, what was typed."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [re.sub(r"^(>>>|\.\.\.) ", "", block, flags=re.MULTILINE) for block in blocks]


def main(dist: Path) -> None:
    """Fail where something does not work."""
    (wheel,) = dist.glob("*.whl")
    top = {name.partition("/")[0] for name in ZipFile(wheel).namelist()}
    assert top == {"gated_vae", f"gated_vae-{gated_vae.__version__}.dist-info"}, top
    assert ROOT not in Path(gated_vae.__file__).parents or ".venv" in gated_vae.__file__, gated_vae.__file__
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        for words in COMMANDS.strip().splitlines():
            subprocess.run([PIPE, *words.split()], check=True, stdout=subprocess.DEVNULL)
        for name, place in {"store": "faces", "run": "model", "mine": "simulated/processed/000001_aligned"}.items():
            Path(name).symlink_to(place)
        images = np.load("store/images.npy")[:200]
        codes = gated_vae.open_run("run").encode(images)[0]
        known = {"images": images, "codes": codes, "factors": codes[:, :3] + 1, "__name__": "__main__"}
        for block in python_of((ROOT / "README.md").read_text()):
            exec(compile(block, "README.md", "exec"), known)
    print(f"{wheel.name} holds gated_vae alone; pipe and README.md's Python work with it.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
