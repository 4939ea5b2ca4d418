"""MIG, SAP and modularity against scikit-learn's mutual information, hand-worked tables and known codes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from gated_vae.models.metrics import dci, mig, modularity, sap
from gated_vae.models.metrics.information import bin_codes, bin_factors, entropy, mutual_information
from gated_vae.models.metrics.modularity import modularity_per_code

# Every combination of 2, 4 and 5 classes, equally often: the factors are independent to the last digit.
GRID = np.array([[a, b, c] for a in range(2) for b in range(4) for c in range(5)] * 10, dtype=float)


def test_bins_are_of_equal_width_and_take_in_both_ends() -> None:
    codes = np.array([[0.0, 3.0], [0.24, 3.0], [0.25, 3.0], [0.99, 3.0], [1.0, 3.0]])
    assert bin_codes(codes, 4).T.tolist() == [[0, 0, 1, 3, 3], [0, 0, 0, 0, 0]]


def test_factors_are_classes_only_when_whole_and_few() -> None:
    halves = np.arange(200.0) % 40 / 2
    factors = np.column_stack([np.repeat([10.0, -3.0], 100), np.arange(200.0), halves, np.arange(200.0) % 100])
    assert [len(np.unique(column)) for column in bin_factors(factors, 20).T] == [2, 20, 20, 100]


def test_information_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    left, right = rng.integers(0, 7, (500, 3)), rng.integers(0, 4, (500, 2))
    right[:, 0], left[:, 2] = left[:, 1] // 2, np.arange(500)
    expected = [[mutual_info_score(a, b) for b in right.T] for a in left.T]
    np.testing.assert_allclose(mutual_information(left, right), expected, atol=1e-12)
    np.testing.assert_allclose(entropy(left), [mutual_info_score(a, a) for a in left.T])


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["one to one", "permuted"])
def test_one_code_per_factor_is_perfect(order: list[int]) -> None:
    codes = GRID[:, order] * [-1, 5, 0.1]
    assert mig(codes, GRID).score == pytest.approx(1)
    assert sap(codes, GRID).score == pytest.approx(1)
    assert modularity(codes, GRID).score == pytest.approx(1)


def test_a_twin_closes_the_gap_but_stays_modular() -> None:
    twins = np.hstack([GRID, GRID])
    assert mig(twins, GRID).score == pytest.approx(0)
    assert sap(twins, GRID).score == pytest.approx(0)
    assert modularity(twins, GRID).score == pytest.approx(1)


def test_rotation_by_45_degrees(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 20_000))
    factors = np.column_stack([x, y])
    mixed = np.column_stack([x + y, x - y])
    assert mig(mixed, factors).score == pytest.approx(0, abs=0.02)
    np.testing.assert_allclose(sap(mixed, factors).matrix, 0.5, atol=0.02)  # cos^2 of 45 degrees
    assert sap(mixed, factors).score == pytest.approx(0, abs=0.02)
    assert modularity(mixed, factors).score == pytest.approx(0, abs=0.05)


def test_random_codes_score_nothing(rng: np.random.Generator) -> None:
    factors = rng.integers(0, 4, (20_000, 3))
    codes = rng.normal(size=(20_000, 4))
    assert mig(codes, factors).score < 0.01
    assert sap(codes, factors).score < 0.01


def test_dead_codes() -> None:
    codes = np.hstack([GRID, np.full((len(GRID), 1), 0.1)])
    assert mig(codes, GRID).score == pytest.approx(1)
    assert sap(codes, GRID).score == pytest.approx(1)
    assert modularity(codes, GRID).per_code.tolist() == pytest.approx([1, 1, 1, 0])
    assert modularity(codes, GRID).score == pytest.approx(3 / 4)
    dead = np.zeros((len(GRID), 2))
    assert (mig(dead, GRID).score, sap(dead, GRID).score, modularity(dead, GRID).score) == (0, 0, 0)


def test_constant_factors_are_left_out(rng: np.random.Generator) -> None:
    factors = np.insert(GRID, 1, 7.0, axis=1)
    codes = GRID + 0.3 * rng.normal(size=GRID.shape)
    assert mig(codes, factors).score == pytest.approx(mig(codes, GRID).score)
    assert sap(codes, factors).score == pytest.approx(sap(codes, GRID).score)
    assert sap(GRID, factors, classes=[0, 1]).score == pytest.approx(sap(GRID, GRID, classes=[0]).score)
    assert modularity(codes, factors).score == pytest.approx(modularity(codes, GRID).score)
    assert mig(codes, factors).per_factor[1] == 0
    assert not sap(GRID, factors, classes=[1]).matrix[:, 1].any()
    constant = np.ones_like(GRID)
    assert (mig(codes, constant).score, sap(codes, constant).score, modularity(codes, constant).score) == (0, 0, 0)


def test_a_single_code_is_compared_with_none() -> None:
    assert mig(GRID[:, :1], GRID, bins=2).per_factor.tolist() == pytest.approx([1, 0, 0])


def test_units_do_not_matter(rng: np.random.Generator) -> None:
    codes = GRID @ rng.normal(size=(3, 4))
    moved = codes[:, [2, 3, 0, 1]] * [2, 0.5, 4, 8]
    assert mig(moved, GRID).score == pytest.approx(mig(codes, GRID).score)
    assert sap(moved, GRID).score == pytest.approx(sap(codes, GRID).score)


def test_sap_is_the_gap_of_squared_correlations(rng: np.random.Generator) -> None:
    codes = GRID @ rng.normal(size=(3, 4))
    squared = np.corrcoef(codes.T, GRID.T)[:4, 4:] ** 2
    np.testing.assert_allclose(sap(codes, GRID).matrix, squared)
    ranked = np.sort(squared, axis=0)
    np.testing.assert_allclose(sap(codes, GRID).per_factor, ranked[-1] - ranked[-2])


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_class_is_coded_perfectly_in_any_order(order: tuple[int, ...]) -> None:
    """Of another code that knows nothing, one third of three classes is right by chance, as is its squared correlation of 0."""
    factors = np.array([[shape, place] for shape in range(3) for place in range(5)] * 400, dtype=float)
    codes = factors.copy()
    codes[:, 0] = np.array(order)[factors[:, 0].astype(int)]
    found = sap(codes, factors, classes=[0])
    np.testing.assert_allclose(found.matrix, [[1, 0], [1 / 3, 1]], atol=1e-12)
    np.testing.assert_allclose(found.per_factor, [2 / 3, 1])
    assert mig(codes, factors).per_factor == pytest.approx([1, 1])
    assert dci(codes, factors, "random_forest").uninformativeness < 1e-9
    in_order = abs(np.diff(order)).max() == 1
    assert dci(codes, factors, "lasso").uninformativeness_per_factor[0] == pytest.approx(
        0.02 if in_order else 0.87, abs=0.01
    )


def test_the_accuracy_of_classes_is_that_of_the_best_thresholds(rng: np.random.Generator) -> None:
    """All pairs of thresholds and all ways to name what they part, tried one after the other."""
    classes = np.repeat([0, 1, 2], [30, 6, 14])
    code = np.array([0.0, 3.0, 1.5])[classes] + rng.normal(0, 0.6, 50)
    cuts = np.sort(code)[:-1]
    best = 0.0
    for low, high in itertools.combinations(cuts, 2):
        part = (code > low).astype(int) + (code > high)
        right = [[(part[classes == k] == i).mean() for k in range(3)] for i in range(3)]
        best = max(best, sum(max(row) for row in right) / 3)
    found = sap(code[:, None], classes[:, None], classes=[0]).matrix[0, 0]
    assert best - 0.05 < found <= best + 1e-12
    assert best < 0.99


def test_two_classes_have_one_threshold() -> None:
    """Of classes 0, 1, 0 in a row one threshold parts one from the rest: all of class 1 and half of class 0 are right."""
    code = np.repeat([0.0, 1, 2], 10)
    assert sap(code[:, None], (code == 1)[:, None], classes=[0]).matrix == pytest.approx(0.75)


def test_dead_codes_know_no_class() -> None:
    found = sap(np.hstack([GRID[:, :1], np.ones((len(GRID), 1))]), GRID[:, :1], classes=[0])
    assert found.matrix.tolist() == [[1], [0]]


@pytest.mark.parametrize(("dead", "completeness", "modular"), [(0, 0.50, 0.67), (4, 0.67, 0.33), (12, 0.75, 0.17)])
def test_the_figures_of_the_caution_on_dead_codes(dead: int, completeness: float, modular: float) -> None:
    """Four codes tell four factors in mixed pairs (x + y, x - y): 1 - log 2 / log M, and (1 - 1 / 3) 4 / M."""
    factors = np.array([*itertools.product(range(6), repeat=4)], dtype=float)
    mix = np.kron(np.eye(2), [[1, 1], [1, -1]])
    codes = np.hstack([factors @ mix, np.zeros((len(factors), dead))])
    found = dci(codes, factors)
    assert round(found.completeness, 2) == completeness
    assert round(modularity(codes, factors).score, 2) == modular
    assert found.disentanglement == pytest.approx(dci(codes[:, :4], factors).disentanglement)
    for score in (mig, sap):
        assert score(codes, factors).score == pytest.approx(score(codes[:, :4], factors).score)


def test_the_figure_of_the_caution_on_bins() -> None:
    places = np.repeat(np.arange(32.0), 100)[:, None]
    assert round(mig(places, places).score, 2) == 0.85  # 1 - 24 / 32 of 1 bit of 5: 12 bins hold two places


def test_modularity_by_hand() -> None:
    # (1^2 + 2^2) / (4^2 * 2) = 5 / 32; equal information in all is worth nothing; none counts 0.
    table = [[1, 4, 2], [3, 3, 3], [0, 0, 0], [0, 5, 0]]
    np.testing.assert_allclose(modularity_per_code(table), [1 - 5 / 32, 0, 0, 1])
    np.testing.assert_allclose(modularity_per_code([[3], [0]]), [1, 0])  # there is no other factor to tell of


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="bins"):
        mig(GRID, GRID, bins=1)
    with pytest.raises(ValueError, match="finite"):
        sap(GRID, GRID * np.nan)
