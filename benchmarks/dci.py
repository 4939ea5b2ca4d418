"""DCI beside the bare scikit-learn fits it is made of: `python -m benchmarks.dci [--repeats 5] [--full]`.

The floor fits the same regressors on the same scaled training rows and does nothing else: no checks, no scaling, no
prediction of the held-out rows, no scores. Both run on one thread, alternating. The bar is a ratio of 1.1.

Forests on 50,000 x 24 take five seconds per factor and factors are fitted one after another, so two factors stand for the 19
unless --full is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso

from benchmarks.timing import seconds
from models.metrics import dci, random_split
from models.metrics.arrays import Array

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


def ratios(regressor: str, shape: tuple[int, int, int], repeats: int) -> Array:
    codes, factors = made_up(*shape)
    train = random_split(len(codes)).train
    x, y = ((a[train] - a[train].mean(0)) / a[train].std(0) for a in (codes, factors))

    def floor() -> None:
        for k in range(y.shape[1]):
            FLOORS[regressor]().fit(x, y[:, k])

    def ours() -> None:
        dci(codes, factors, regressor)  # type: ignore[arg-type]

    for warm_up in (floor, ours):
        warm_up()
    return np.array([seconds(ours) / seconds(floor) for _ in range(repeats)])


def report(regressor: str, shape: tuple[int, int, int], repeats: int) -> bool:
    """Print one record and tell whether the bar is met."""
    measured = ratios(regressor, shape, repeats)
    ratio, low, high = (round(float(f(measured)), 3) for f in (np.median, np.min, np.max))
    record = {"stage": "dci", "regressor": regressor, "shape": shape, "repeats": repeats}
    print(json.dumps({**record, "ratio": ratio, "low": low, "high": high, "bar": BAR, "met": ratio <= BAR}), flush=True)
    return ratio <= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description="DCI beside bare scikit-learn fits")
    parser.add_argument(
        "--repeats", type=int, default=5, help="for forests; Lasso, being quick, is run four times as often"
    )
    parser.add_argument("--full", action="store_true", help="forests on all 19 factors of the large size (20 minutes)")
    options = parser.parse_args()
    met = [report("lasso", shape, 4 * options.repeats) for shape in (SMALL, LARGE)]
    met += [
        report("random_forest", shape, options.repeats) for shape in (SMALL, LARGE if options.full else LARGE_SHORT)
    ]
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
