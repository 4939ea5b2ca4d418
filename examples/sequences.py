"""pip install '.[cpu]'; python examples/sequences.py out/film --films 60 --steps 2000

Frames of films without a label: neighbours in time share how the film looks, frames of one film share who is in it. The films here
are drawn: a disc of one brightness and size drifts over a ground that flickers. With your own, begin at `pipe preprocess`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

FRAMES = 40


def draw(folder: Path, films: int) -> Path:
    """Frames in `folder`, one behind the other, and the table beside it: its film and number, and where the disc is."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for film in range(films):
        size, light = int(generator.integers(5, 14)), int(generator.integers(120, 256))
        start, way = generator.uniform(18, 46, 2), generator.uniform(-0.9, 0.9, 2)
        for frame in range(FRAMES):
            x, y = np.clip(start + way * frame, 14, 50)
            picture = np.full((64, 64), generator.integers(20, 90), np.uint8)
            cv2.circle(picture, (round(x), round(y)), size, light, cv2.FILLED, cv2.LINE_AA)
            name = f"film{film:03d}-{frame:03d}.png"
            cv2.imwrite(str(folder / name), picture)
            rows.append({"file_name": name, "film": f"film{film:03d}", "frame": frame, "x": x, "y": y, "size": size})
    pd.DataFrame(rows).to_csv(folder.with_name("frames.csv"), index=False)
    return folder.with_name("frames.csv")


def pipe(words: str) -> None:
    """Run a command of `pipe`."""
    print("$ pipe", words, flush=True)
    subprocess.run(
        [sys.executable, "-c", "from gated_vae.pipelines.cli import main; main()", *words.split()], check=True
    )


def main() -> None:
    """Draw, preprocess, pair, train, judge, and draw traversals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    out, table = given.out, draw(given.out / "frames", given.films)
    pipe(f"preprocess images {out}/frames --labels {table} --size 32 --out {out}/store")
    pipe(f"pair {out}/store --follow place=film,frame:3 --share film=film --draws 4")
    pipe(f"train {out}/store --out {out}/run --method partners --latent place=3,film=3 --steps {given.steps}")
    pipe(f"evaluate {out}/run")
    pipe(f"traverse {out}/run")


if __name__ == "__main__":
    main()
