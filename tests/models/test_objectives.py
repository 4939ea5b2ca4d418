"""Losses against hand-worked values, torch's own, and brute force."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from gated_vae.models.objectives import (
    DIPVAE1,
    DIPVAE2,
    TCVAE,
    VAE,
    AnnealedVAE,
    Bernoulli,
    BetaVAE,
    Discriminator,
    Encoded,
    FactorVAE,
    Gaussian,
    InfoVAE,
    Likelihood,
    Objective,
    Posterior,
    bernoulli_loss,
    correlation,
    dip_covariance,
    dip_penalty,
    gaussian_kl,
    learnt_log_scale,
    mean_covariance,
    mmd,
    total_correlation,
)


def posterior(batch: int, size: int, seed: int = 0) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    return Posterior(torch.randn(batch, size, generator=generator), torch.randn(batch, size, generator=generator))


def told(
    q: Posterior,
    codes: torch.Tensor,
    prior: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    step: float = math.inf,
    critic: torch.nn.Module | None = None,
) -> Encoded:
    weights = torch.ones(codes.shape[1]) if weights is None else weights
    return Encoded(q, codes, prior, weights, torch.tensor(step), critic)


def test_bernoulli_loss_of_one_pixel_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0)]]])  # probability 3/4
    assert float(bernoulli_loss(logits, torch.ones(1, 1, 1), 1)) == pytest.approx(-math.log(0.75))
    assert float(bernoulli_loss(logits, torch.zeros(1, 1, 1), 1)) == pytest.approx(-math.log(0.25))


def test_bernoulli_loss_and_gradient_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(6, 8, 8, generator=generator)).requires_grad_()
    target = torch.rand(6, 8, 8, generator=generator)
    ours = bernoulli_loss(logits, target, 6)
    (ours_gradient,) = torch.autograd.grad(3 * ours, logits)
    theirs = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / 6
    (theirs_gradient,) = torch.autograd.grad(3 * theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours_gradient, theirs_gradient)


def test_bernoulli_loss_stays_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[[1e4, -1e4]]])
    assert float(bernoulli_loss(logits, torch.tensor([[[1.0, 0.0]]]), 1)) == 0.0
    assert float(bernoulli_loss(logits, torch.tensor([[[0.0, 1.0]]]), 1)) == pytest.approx(2e4)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.1)])
def test_losses_are_float32_whatever_the_decoder_computes_in(likelihood: Likelihood) -> None:
    logits, target = torch.randn(6, 8, 8).bfloat16(), torch.rand(6, 8, 8).bfloat16()
    ours = likelihood.loss(logits, target, None, 6)
    assert torch.equal(ours, likelihood.loss(logits.float(), target.float(), None, 6))


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
    beta = BetaVAE().terms(told(q, codes, prior))
    assert float(beta["kl"]) == pytest.approx(4 * kl)
    assert float(VAE().terms(told(q, codes, prior))["kl"]) == pytest.approx(kl)
    info = InfoVAE(alpha=0.25, lambda_=500.0).terms(told(q, codes, prior))
    assert float(info["kl"]) == pytest.approx(0.75 * kl)
    assert float(info["mmd"]) == pytest.approx(499.25 * float(mmd(codes, prior)), rel=1e-4)
    dip = DIPVAE2(beta=0.5, lambda_od=2.0, lambda_d=3.0).terms(told(q, codes, prior))
    assert float(dip["kl"]) == pytest.approx(0.5 * kl)
    assert float(dip["dip"]) == pytest.approx(float(dip_penalty(dip_covariance(q), 2.0, 3.0)))


def test_dimensions_may_pay_for_the_divergence_differently() -> None:
    q = posterior(16, 4)
    codes, prior = q.mean, torch.zeros(16, 4)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5])
    found = BetaVAE().terms(told(q, codes, prior, weights=weights))
    assert float(found["kl"]) == pytest.approx(4 * float(gaussian_kl(q) @ weights))


def test_a_discrepancy_that_would_repel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        InfoVAE(alpha=-500.0, lambda_=500.0)


@pytest.mark.parametrize("objective", [InfoVAE(), DIPVAE1(), DIPVAE2(), TCVAE(), FactorVAE()])
def test_a_batch_of_one_has_no_statistics(objective: Objective) -> None:
    q = posterior(1, 2)
    with pytest.raises(ValueError, match="batch size of 2"):
        objective.terms(told(q, q.mean, q.mean))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0])
@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (VAE, "beta"),
        (BetaVAE, "beta"),
        (DIPVAE2, "beta"),
        (DIPVAE2, "lambda_od"),
        (DIPVAE2, "lambda_d"),
        (DIPVAE1, "lambda_d"),
        (TCVAE, "beta"),
        (FactorVAE, "gamma"),
        (AnnealedVAE, "gamma"),
        (AnnealedVAE, "capacity"),
    ],
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
    assert InfoVAE(alpha=1.0, lambda_=0.0).alpha == 1


def test_total_correlation_agrees_with_two_loops() -> None:
    q, size = posterior(6, 3), 3
    codes = q.sample(torch.randn(6, size, generator=torch.Generator().manual_seed(1)))
    mean, std, z = q.mean.numpy(), np.exp(q.logvar.numpy() / 2), codes.numpy()
    density = np.array([[norm.pdf(z[i], mean[j], std[j]) for j in range(6)] for i in range(6)])  # (i, j, d)
    joint, each = density.prod(2).mean(1), density.mean(1)
    expected = np.mean(np.log(joint) - np.log(each).sum(1))
    assert float(total_correlation(q, codes)) == pytest.approx(expected, rel=1e-4)
    terms = TCVAE(beta=4).terms(told(q, codes, codes))
    assert float(terms["tc"]) == pytest.approx(3 * expected, rel=1e-4)
    assert float(terms["kl"]) == pytest.approx(float(gaussian_kl(q).sum()))


def test_the_size_of_the_data_set_moves_the_total_correlation_s_value_alone() -> None:
    """Chen et al. 2018 divide the sums by N B, not by B: (M - 1) log N more, and the same gradient."""
    q = posterior(6, 3)
    for tensor in (q.mean, q.logvar):
        tensor.requires_grad_()
    codes, total = q.sample(torch.randn(6, 3, generator=torch.Generator().manual_seed(1))), 1000 * 6
    each = Normal(q.mean, (0.5 * q.logvar).exp()).log_prob(codes[:, None])
    theirs = (each.sum(2).exp().sum(1) / total).log() - (each.exp().sum(1) / total).log().sum(1)
    ours = total_correlation(q, codes)
    assert float((theirs.mean() - ours).detach()) == pytest.approx(2 * math.log(1000), rel=1e-5)
    gradients = (torch.autograd.grad(loss, [q.mean, q.logvar], retain_graph=True) for loss in (ours, theirs.mean()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_total_correlation_tells_dependent_codes_from_independent_ones() -> None:
    """That of a normal of correlation r is -log(1 - r^2) / 2; a batch sees a part of it. By default it is charged."""
    generator, found = torch.Generator().manual_seed(0), []
    for r in (0.0, 0.95):
        mean = torch.randn(512, 2, generator=generator) @ torch.tensor([[1.0, r], [0.0, math.sqrt(1 - r * r)]])
        q = Posterior(mean, torch.full((512, 2), math.log(0.01)))
        codes = q.sample(torch.randn(512, 2, generator=generator))
        found.append(float(TCVAE().terms(told(q, codes, codes))["tc"]) / 5)
    assert found[1] - found[0] > 0.5 * -0.5 * math.log(1 - 0.95**2)


def test_the_first_dip_vae_looks_at_the_means_alone() -> None:
    """Two points at (1, 0) and (-1, 2): covariance [[1, -1], [-1, 1]], whatever the variances."""
    q = Posterior(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.log(torch.tensor([[4.0, 9.0], [4.0, 9.0]])))
    torch.testing.assert_close(mean_covariance(q), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    terms = DIPVAE1(beta=0.5, lambda_od=2.0, lambda_d=0.5).terms(told(q, q.mean, q.mean))
    assert float(terms["dip"]) == pytest.approx(2.0 * 2)
    assert float(terms["kl"]) == pytest.approx(0.5 * float(gaussian_kl(q).sum()))
    assert DIPVAE1().lambda_d == 10 * DIPVAE1().lambda_od


@pytest.mark.parametrize(("step", "expected"), [(0, 10 * 3.0), (20, 10 * 1.0), (50, 10 * 2.0), (math.inf, 10 * 2.0)])
def test_the_capacity_rises_evenly_and_stays(step: float, expected: float) -> None:
    """Means of 1 in six dimensions: 3 nats. The capacity goes to 5 in 50 steps."""
    q = Posterior(torch.ones(4, 6), torch.zeros(4, 6))
    objective = AnnealedVAE(gamma=10, capacity=5, steps=50)
    term = objective.terms(told(q, q.mean, q.mean, step=step))["capacity"]
    assert float(term) == pytest.approx(expected)
    with pytest.raises(ValueError, match="1 or more"):
        AnnealedVAE(steps=0)


def test_factor_vae_s_terms_by_hand_and_who_learns_from_which() -> None:
    """A discriminator whose logits are (z_0 z_1, 0) through one layer's place: told apart by a product of signs."""

    class Product(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, codes: torch.Tensor, *, frozen: bool = False) -> torch.Tensor:
            scale = self.scale.detach() if frozen else self.scale
            return torch.stack([scale * codes[:, 0] * codes[:, 1], torch.zeros(len(codes))], 1)

    critic, codes = Product(), torch.tensor([[1.0, 1.0], [-1.0, -1.0]], requires_grad=True)
    prior = torch.tensor([[0.0, 3.0], [1.0, 2.0]])  # the second column is turned round, the first is left
    q = Posterior(2 * codes, torch.zeros(2, 2))
    terms = FactorVAE(beta=0.25, gamma=3.0).terms(told(q, codes, prior, critic=critic))
    found = {name: float(term.detach()) for name, term in terms.items()}
    # Odds of 2 for both codes, and of -2 for (1, -1) and (-1, 1).
    assert found == pytest.approx({"kl": 0.25 * 4, "tc": 3 * 2.0, "critic": math.log(1 + math.exp(-2))})
    assert torch.autograd.grad(terms["tc"], critic.scale, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(terms["critic"], codes, allow_unused=True, retain_graph=True) == (None,)
    assert bool(torch.autograd.grad(terms["tc"], codes)[0].any())


def test_a_discriminator_learns_the_total_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes whose dimensions are one sign: one bit, of which its mean log odds tell most; none where they are independent."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    monkeypatch.setattr(correlation, "UNITS", (32, 32))
    found = []
    for is_same in (True, False):
        critic, objective = Discriminator(2), FactorVAE(gamma=1.0)
        optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.5, 0.9))
        for _ in range(40):
            signs = torch.randint(2, (64, 2), generator=generator).float() * 2 - 1
            codes = signs[:, :1].expand(64, 2) if is_same else signs
            prior = torch.randn(64, 2, generator=generator)
            terms = objective.terms(told(Posterior(codes, codes), codes, prior, critic=critic))
            optimiser.zero_grad()
            terms["critic"].backward()
            optimiser.step()
        found.append(float(terms["tc"].detach()))
    assert found[0] > 0.3
    assert abs(found[1]) < 0.1


def test_the_discriminator_is_the_paper_s() -> None:
    sizes = [(layer.in_features, layer.out_features) for layer in Discriminator(10).layers]
    assert sizes == [(10, 1000), *[(1000, 1000)] * 5, (1000, 2)]
    alone = torch.nn.Sequential(
        *(part for layer in Discriminator(3).layers for part in (layer, torch.nn.LeakyReLU(0.2)))
    )
    critic = Discriminator(3)
    critic.layers.load_state_dict({f"{i}.{name}": v for i in range(7) for name, v in alone[2 * i].state_dict().items()})
    codes = torch.randn(4, 3)
    torch.testing.assert_close(critic(codes), alone[:-1](codes))
    frozen = critic(codes.requires_grad_(), frozen=True)
    assert torch.equal(frozen, critic(codes))
    frozen.sum().backward()
    assert codes.grad.all()
    assert all(weight.grad is None for weight in critic.parameters())


@pytest.mark.parametrize("objective", [TCVAE(), DIPVAE1(), AnnealedVAE(), FactorVAE()])
def test_gradients_are_finite_where_codes_coincide_and_are_told_exactly(objective: Objective) -> None:
    mean, logvar = torch.zeros(4, 2, requires_grad=True), torch.full((4, 2), -20.0, requires_grad=True)
    q = Posterior(mean, logvar)
    codes = q.sample(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    terms = objective.terms(told(q, codes, torch.zeros(4, 2), critic=Discriminator(2)))
    gradients = torch.autograd.grad(sum(terms.values()), [mean, logvar])
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
