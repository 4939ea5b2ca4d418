"""What DCI gives codes of dSprites that hold everything: `python -m benchmarks.ceiling`.

A turn by half shows the same ellipse, so no code of pictures can tell all 40 rotations apart, and a forest spreads the importance
of what it cannot predict. The codes here are x, y, size, the shape as two of three indicators, and the turn as the cosine and
sine of the angle times what the shape's symmetry leaves of it; all with a little noise, as encoders have.
"""

from __future__ import annotations

import numpy as np

from gated_vae.models.metrics import dci

SYMMETRY = np.array([4, 2, 1])  # of square, ellipse and heart
SAMPLES = 10_000
SIZES = (3, 6, 40, 32, 32)


def main() -> None:
    generator = np.random.default_rng(0)
    shape, size, rotation, x, y = (generator.integers(0, count, SAMPLES) for count in SIZES)
    angle = 2 * np.pi * rotation / (SIZES[2] - 1) * SYMMETRY[shape]
    factors = np.stack([shape, size, rotation, x, y], 1).astype(np.float64)
    codes = np.stack([x, y, shape == 0, shape == 1, size, np.cos(angle), np.sin(angle)], 1).astype(np.float64)
    for noise in (0.0, 0.03, 0.1, 0.2):
        score = dci(codes + noise * generator.standard_normal(codes.shape), factors, "random_forest")
        print(f"noise {noise:g}: D {score.disentanglement:.2f}, U {score.uninformativeness:.2f}")


if __name__ == "__main__":
    main()
