"""Losses against hand-worked values, torch's own, and brute force."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from gated_vae.models.objectives import (
    DIPVAE2,
    VAE,
    BetaVAE,
    Gaussian,
    InfoVAE,
    Objective,
    Posterior,
    bernoulli_loss,
    dip_covariance,
    dip_penalty,
    gaussian_kl,
    learnt_log_scale,
    mmd,
)


def posterior(batch: int, size: int, seed: int = 0) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    return Posterior(torch.randn(batch, size, generator=generator), torch.randn(batch, size, generator=generator))


def test_bernoulli_loss_of_one_pixel_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0)]]])  # probability 3/4
    assert float(bernoulli_loss(logits, torch.ones(1, 1, 1))) == pytest.approx(-math.log(0.75))
    assert float(bernoulli_loss(logits, torch.zeros(1, 1, 1))) == pytest.approx(-math.log(0.25))


def test_bernoulli_loss_and_gradient_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(6, 8, 8, generator=generator)).requires_grad_()
    target = torch.rand(6, 8, 8, generator=generator)
    ours = bernoulli_loss(logits, target)
    (ours_gradient,) = torch.autograd.grad(3 * ours, logits)
    theirs = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / 6
    (theirs_gradient,) = torch.autograd.grad(3 * theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours_gradient, theirs_gradient)


def test_bernoulli_loss_stays_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[[1e4, -1e4]]])
    assert float(bernoulli_loss(logits, torch.tensor([[[1.0, 0.0]]]))) == 0.0
    assert float(bernoulli_loss(logits, torch.tensor([[[0.0, 1.0]]]))) == pytest.approx(2e4)


def test_gaussian_loss_of_one_pixel_by_hand() -> None:
    """Half a white away from the mean at scale 1/4: two standard deviations."""
    logits, target = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    expected = 0.5 * 2**2 + math.log(0.25 * math.sqrt(2 * math.pi))
    assert float(Gaussian(0.25).loss(logits, target, None, 1)) == pytest.approx(expected)
    assert float(Gaussian().loss(logits, target, torch.zeros(()), 1)) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("raw", [None, 0.3, -0.2, -2.0])
def test_gaussian_loss_and_gradients_agree_with_torch_distributions(raw: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(6, 8, 8, generator=generator)).requires_grad_()
    target = torch.rand(6, 8, 8, generator=generator)
    learnt = None if raw is None else torch.tensor(raw, requires_grad=True)
    likelihood = Gaussian(0.1) if raw is None else Gaussian()
    scale = torch.tensor(0.1) if learnt is None else learnt_log_scale(learnt).exp()
    theirs = -Normal(torch.sigmoid(logits), scale).log_prob(target).sum() / 6
    ours = likelihood.loss(logits, target, learnt, 6)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    leaves = [leaf for leaf in (logits, learnt) if leaf is not None]
    gradients = (torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_learnt_scale_comes_to_the_root_mean_square_of_what_is_left() -> None:
    """Its maximum likelihood estimate; and where nothing is left it stays above e^-6."""
    left = 0.07 * torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(0))
    for target, expected in ((0.5 + left, float(left.square().mean().sqrt())), (torch.full((4, 16, 16), 0.5), None)):
        raw = torch.zeros((), requires_grad=True)
        optimiser = torch.optim.Adam([raw], lr=1e-3 if expected else 0.1)
        for _ in range(400):
            optimiser.zero_grad()
            Gaussian().loss(torch.zeros(4, 16, 16), target, raw, 4).backward()
            optimiser.step()
        scale = float(learnt_log_scale(raw.detach()).exp())
        assert scale == pytest.approx(expected, rel=0.01) if expected else math.exp(-6) <= scale < 0.003


def test_kl_agrees_with_torch_distributions() -> None:
    q = posterior(50, 4)
    expected = kl_divergence(Normal(q.mean, (0.5 * q.logvar).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(gaussian_kl(q), expected)
    assert float(gaussian_kl(Posterior(torch.zeros(3, 1), torch.zeros(3, 1)))) == 0.0


def test_dip_covariance_adds_a_diagonal_not_a_scalar() -> None:
    """Two points at (1, 0) and (-1, 2) with variances 4 and 9: covariance [[1, -1], [-1, 1]] plus diag(4, 9)."""
    q = Posterior(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.log(torch.tensor([[4.0, 9.0], [4.0, 9.0]])))
    covariance = dip_covariance(q)
    torch.testing.assert_close(covariance, torch.tensor([[5.0, -1.0], [-1.0, 10.0]]))
    assert float(dip_penalty(covariance, lambda_od=2.0, lambda_d=0.5)) == pytest.approx(2.0 * 2 + 0.5 * (16 + 81))


def test_dip_covariance_agrees_with_numpy_and_with_sampled_codes() -> None:
    q = posterior(4000, 3)
    expected = np.cov(q.mean.numpy().T, ddof=0) + np.diag(q.logvar.exp().numpy().mean(0))
    np.testing.assert_allclose(dip_covariance(q).numpy(), expected, rtol=1e-4, atol=1e-4)
    generator = torch.Generator().manual_seed(1)
    samples = torch.cat([q.sample(torch.randn(4000, 3, generator=generator)) for _ in range(25)])
    np.testing.assert_allclose(np.cov(samples.numpy().T), expected, atol=0.06)


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    """The stated kernel of one pair, in plain NumPy."""
    scales = 2 * len(a) * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
    return float(np.mean(scales / (scales + ((a - b) ** 2).sum())))


def test_mmd_agrees_with_two_loops() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.5, 1, (7, 3)), generator.normal(0, 1, (5, 3))
    xx = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    ours = float(mmd(torch.from_numpy(x).float(), torch.from_numpy(y).float()))
    assert ours == pytest.approx(xx + yy - 2 * xy, abs=1e-5)


def test_mmd_is_unbiased_and_sees_shift_and_collapse_in_the_paper_s_dimension() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        return torch.randn(128, 8, generator=generator)

    same = [float(mmd(draw(), draw())) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(200)
    noise = np.std(same)
    assert float(mmd(draw() + 0.5, draw())) > 10 * noise
    assert float(mmd(0.1 * draw(), draw())) > 10 * noise


def test_mmd_has_no_bad_gradient_where_codes_coincide() -> None:
    codes = torch.zeros(4, 2, requires_grad=True)
    mmd(codes, torch.randn(4, 2, generator=torch.Generator().manual_seed(0))).backward()
    assert bool(torch.isfinite(codes.grad).all())


def test_terms_carry_their_weights() -> None:
    q = posterior(16, 4)
    noise, prior = torch.zeros(16, 4), torch.randn(16, 4, generator=torch.Generator().manual_seed(2))
    codes, kl = q.sample(noise), float(gaussian_kl(q).sum())
    beta = BetaVAE().terms(q, codes, prior, torch.ones(4))
    assert float(beta["kl"]) == pytest.approx(4 * kl)
    assert float(VAE().terms(q, codes, prior, torch.ones(4))["kl"]) == pytest.approx(kl)
    info = InfoVAE(alpha=0.25, lambda_=500.0).terms(q, codes, prior, torch.ones(4))
    assert float(info["kl"]) == pytest.approx(0.75 * kl)
    assert float(info["mmd"]) == pytest.approx(499.25 * float(mmd(codes, prior)), rel=1e-4)
    dip = DIPVAE2(beta=0.5, lambda_od=2.0, lambda_d=3.0).terms(q, codes, prior, torch.ones(4))
    assert float(dip["kl"]) == pytest.approx(0.5 * kl)
    assert float(dip["dip"]) == pytest.approx(float(dip_penalty(dip_covariance(q), 2.0, 3.0)))


def test_dimensions_may_pay_for_the_divergence_differently() -> None:
    q = posterior(16, 4)
    codes, prior = q.mean, torch.zeros(16, 4)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5])
    found = BetaVAE().terms(q, codes, prior, weights)
    assert float(found["kl"]) == pytest.approx(4 * float(gaussian_kl(q) @ weights))


def test_a_discrepancy_that_would_repel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        InfoVAE(alpha=-500.0, lambda_=500.0)


@pytest.mark.parametrize("kind", [VAE, BetaVAE, DIPVAE2])
@pytest.mark.parametrize("beta", [-1.0, math.nan])
def test_a_divergence_that_would_be_rewarded_is_refused(kind: type[VAE], beta: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        kind(beta=beta)


@pytest.mark.parametrize("wrong", [{"lambda_od": -1.0}, {"lambda_d": -1.0}])
def test_a_penalty_that_would_be_rewarded_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        DIPVAE2(**wrong)


@pytest.mark.parametrize("objective", [InfoVAE(), DIPVAE2()])
def test_a_batch_of_one_has_no_statistics(objective: Objective) -> None:
    q = posterior(1, 2)
    with pytest.raises(ValueError, match="batch size of 2"):
        objective.terms(q, q.mean, q.mean, torch.ones(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0])
@pytest.mark.parametrize(
    ("objective", "name"), [(VAE, "beta"), (BetaVAE, "beta"), (DIPVAE2, "beta"), (DIPVAE2, "lambda_od")]
)
def test_weights_are_finite_and_not_negative(objective: type[Any], name: str, value: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        objective(**{name: value})


@pytest.mark.parametrize(
    "wrong", [{"alpha": 1.5}, {"alpha": float("nan")}, {"lambda_": float("nan")}, {"lambda_": float("inf")}]
)
def test_infovae_charges_what_it_can(wrong: dict[str, float]) -> None:
    """Above 1, alpha would reward the KL divergence (Zhao, Song, Ermon 2019 have alpha below 1)."""
    with pytest.raises(ValueError, match="alpha"):
        InfoVAE(**wrong)
    assert InfoVAE(alpha=1.0).alpha == 1
