"""DCI beside the bare scikit-learn fits it is made of: `python -m benchmarks.dci [--repeats 5] [--full]`.

The floor fits the same regressors on the same scaled training rows and does nothing else: no checks, no scaling, no
prediction of the held-out rows, no scores. Both run on one thread, alternating. The bar is a ratio of 1.1.

Forests on 50,000 x 24 take five seconds per factor and factors are fitted one after another, so two factors stand for the 19
unless --full is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import chain

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso

from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.models.metrics import dci, random_split
from gated_vae.models.metrics.arrays import Array

BAR = 1.1
SMALL, LARGE, LARGE_SHORT = (10_000, 8, 5), (50_000, 24, 19), (50_000, 24, 2)
FLOORS: dict[str, Callable[[], Lasso | RandomForestRegressor]] = {
    "lasso": lambda: Lasso(alpha=0.02),
    "random_forest": lambda: RandomForestRegressor(n_estimators=10, max_depth=12, random_state=0),
}


def made_up(rows: int, latent: int, factors: int) -> tuple[Array, Array]:
    """Factors that are noisy, curved mixtures of the codes, so that trees grow as deep as on real codes."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(rows, latent))
    truth = np.tanh(codes @ rng.normal(size=(latent, factors)) / 2) + 0.3 * rng.normal(size=(rows, factors))
    return codes, truth


def compare(regressor: str, shape: tuple[int, int, int], repeats: int) -> Record:
    codes, factors = made_up(*shape)
    train = random_split(len(codes)).train
    x, y = ((a[train] - a[train].mean(0)) / a[train].std(0) for a in (codes, factors))

    def floor() -> None:
        for k in range(y.shape[1]):
            FLOORS[regressor]().fit(x, y[:, k])

    def ours() -> None:
        dci(codes, factors, regressor)  # type: ignore[arg-type]

    times = alternate({"floor": floor, "ours": ours}, repeats)
    rows, latent, count = shape
    stage = f"DCI, {regressor.replace('_', ' ')}, {rows:,} x {latent}, {count} factors"
    return ratio(stage, "bare scikit-learn fits", times["ours"], times["floor"], BAR)


def main() -> int:
    parser = argparse.ArgumentParser(description="DCI beside bare scikit-learn fits")
    parser.add_argument(
        "--repeats", type=int, default=5, help="for forests; Lasso, being quick, is run four times as often"
    )
    parser.add_argument("--full", action="store_true", help="forests on all 19 factors of the large size (20 minutes)")
    options = parser.parse_args()
    large = LARGE if options.full else LARGE_SHORT
    lasso = (compare("lasso", shape, 4 * options.repeats) for shape in (SMALL, LARGE))
    forests = (compare("random_forest", shape, options.repeats) for shape in (SMALL, large))
    return show(chain(lasso, forests))


if __name__ == "__main__":
    sys.exit(main())
