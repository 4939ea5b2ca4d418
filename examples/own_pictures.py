"""pip install '.[cpu]'; python examples/own_pictures.py out/own --pictures 2000 --steps 2000

Pictures of your own with a table of what is known of them, in colour: from a folder to a trained model and its pictures. The folder
here is drawn: discs of some hue at some place, and `labels.csv` with a row to each. With your own, begin at `pipe preprocess`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd


def draw(folder: Path, count: int) -> Path:
    """Pictures in `folder` and the table beside it: the place in pixels, the hue in degrees, and the kind of the ground."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        x, y, hue = generator.integers(16, 49), generator.integers(16, 49), generator.integers(0, 360)
        ground = str(generator.choice(["plain", "striped"]))
        picture = np.full((64, 64, 3), 70, np.uint8)
        if ground == "striped":
            picture[:, ::8] = picture[:, 1::8] = picture[:, 2::8] = 130
        colour = cv2.cvtColor(np.array([[[hue // 2, 220, 230]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
        cv2.circle(picture, (int(x), int(y)), 11, colour, cv2.FILLED, cv2.LINE_AA)
        cv2.imwrite(str(folder / f"{number:05d}.png"), picture)
        rows.append({"file_name": f"{number:05d}.png", "x": x, "y": y, "hue": hue, "ground": ground})
    pd.DataFrame(rows).to_csv(folder.with_name("labels.csv"), index=False)
    return folder.with_name("labels.csv")


def pipe(words: str) -> None:
    """Run a command of `pipe`."""
    print("$ pipe", words, flush=True)
    subprocess.run(
        [sys.executable, "-c", "from gated_vae.pipelines.cli import main; main()", *words.split()], check=True
    )


def main() -> None:
    """Draw, preprocess, group, pair, train, judge, and draw traversals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    out, table = given.out, draw(given.out / "pictures", given.pictures)
    places, colours = (max(given.pictures // size, 2) for size in (50, 100))
    split = "train=.7,valid=.15,test=.15"
    pipe(f"preprocess images {out}/pictures --labels {table} --colour --size 32 --split {split} --out {out}/store")
    pipe(f"cluster {out}/store --near place=x,y:{places} --near colour=hue@360:{colours}")
    pipe(f"pair {out}/store --share ground=ground")
    latent = "place=3,colour=2,ground=2"
    pipe(f"train {out}/store --out {out}/run --method partners --latent {latent} --steps {given.steps}")
    pipe(f"evaluate {out}/run")
    pipe(f"traverse {out}/run")


if __name__ == "__main__":
    main()
