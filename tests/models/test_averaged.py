"""Averaged posteriors by hand, against PyTorch's distributions, and against quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

from gated_vae.models.methods.averaged import GVAE, MLVAE, AdaGVAE, AdaMLVAE, divergences, mean_of_both, product_of_both
from gated_vae.models.methods.base import StepBatch, encode_groups
from gated_vae.models.methods.slow import SlowVAE, laplace_cross_entropy
from gated_vae.models.objectives import VAE, InfoVAE, Posterior
from gated_vae.models.registry import METHODS, parse
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise

BATCH, SIZE = 6, 5
CONFIG = GatedVAEConfig({"left": 2, "right": 3}, image_shape=(16, 16), network="fc", hidden=(16, 16))
BY_HAND = Posterior(torch.tensor([[[1.0]], [[4.0]]]), torch.tensor([[[0.5]], [[2.0]]]).log())  # N(1, 1/2), N(4, 2)


def two(seed: int = 0) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    return Posterior(*torch.randn(2, 2, BATCH, SIZE, generator=generator))


def normals(both: Posterior) -> list[Normal]:
    return [Normal(mean, (0.5 * logvar).exp()) for mean, logvar in zip(both.mean, both.logvar, strict=True)]


def test_averages_by_hand() -> None:
    mean = mean_of_both(BY_HAND)
    assert (float(mean.mean), float(mean.logvar.exp())) == pytest.approx((2.5, 1.25))
    product = product_of_both(BY_HAND)  # precisions 2 and 1/2: 2.5 together, (2 * 1 + 0.5 * 4) / 2.5
    assert (float(product.mean), float(product.logvar.exp())) == pytest.approx((1.6, 0.4))
    doubled = product_of_both(BY_HAND, double_variance=True)
    assert (float(doubled.mean), float(doubled.logvar.exp())) == pytest.approx((1.6, 0.8))
    # KL(N(1, 1/2) || N(4, 2)) = (1/4 + 9/2 - 1 + log 4) / 2
    assert float(divergences(BY_HAND)) == pytest.approx((0.25 + 4.5 - 1 + math.log(4)) / 2)


def test_a_product_is_the_density_that_two_densities_multiply_to() -> None:
    both, grid = two(), torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    found = product_of_both(both)
    density = math.prod(
        Normal(q.loc.double(), q.scale.double()).log_prob(grid[:, None, None]).exp() for q in normals(both)
    )
    weights = density / density.sum(0)
    mean = (weights * grid[:, None, None]).sum(0)
    variance = (weights * (grid[:, None, None] - mean) ** 2).sum(0)
    torch.testing.assert_close(found.mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logvar.exp().double(), variance, rtol=1e-4, atol=1e-5)


def test_precise_posteriors_stay_finite() -> None:
    sharp = Posterior(torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[-120.0]], [[90.0]]]))
    for found in (product_of_both(sharp), mean_of_both(sharp)):
        assert torch.isfinite(found.mean).all()
        assert torch.isfinite(found.logvar).all()
    assert float(product_of_both(sharp).mean) == 1.0


@pytest.mark.parametrize(
    "method", [GVAE(), MLVAE(), AdaGVAE(), AdaGVAE(k=2), AdaMLVAE(symmetric=True), AdaMLVAE(k=1, double_variance=True)]
)
@pytest.mark.parametrize("partition", list(CONFIG.latent))
def test_what_is_shared_is_averaged_and_the_rest_is_each_images_own(method: GVAE, partition: str) -> None:
    """One pair and dimension after the other, divergences by PyTorch."""
    torch.manual_seed(0)
    vae = GatedVAE(CONFIG).eval()
    images = torch.randint(0, 256, (2, BATCH, 16, 16), dtype=torch.uint8)
    batch = vae.opened(method.prepare(StepBatch(*images, partition), 0))
    noise = draw_noise(CONFIG, BATCH, seed=0, step=1, device="cpu")
    with torch.no_grad():
        step, both = method.step(vae, batch, noise), encode_groups(vae, images)
    first, second = normals(both)
    apart = kl_divergence(first, second)
    if getattr(method, "symmetric", False):
        apart = apart + kl_divergence(second, first)
    averaged = 0
    for pair in range(BATCH):
        threshold = (float(apart[pair].min()) + float(apart[pair].max())) / 2
        for d in range(SIZE):
            if not isinstance(method, AdaGVAE):
                alike = d in range(SIZE)[vae.partitions[partition]]
            elif method.k:
                alike = sorted(apart[pair].tolist()).index(float(apart[pair, d])) < SIZE - method.k
            else:
                alike = float(apart[pair, d]) < threshold
            averaged += alike
            means, variances = both.mean[:, pair, d], both.logvar[:, pair, d].exp()
            if alike and hasattr(method, "double_variance"):
                variance = 1 / (1 / variances).sum()
                means, variances = (means / variances).sum() * variance, variance * (1 + method.double_variance)
            elif alike:
                means, variances = means.mean(), variances.mean()
            torch.testing.assert_close(step.posterior.mean[:, pair, d], means.expand(2))
            torch.testing.assert_close(step.posterior.logvar[:, pair, d].exp(), variances.expand(2))
    assert BATCH <= averaged <= 4 * BATCH
    # Each image has noise of its own, in what is shared, too.
    torch.testing.assert_close(step.codes, step.posterior.mean + noise[:2] * (0.5 * step.posterior.logvar).exp())


def test_what_is_alike_by_hand() -> None:
    """Divergences of 1/2, 25/2 and 49/2 are half-way at 25/2, which is not below it; both ways count where they are asked for."""
    batch = StepBatch(torch.empty(0), torch.empty(0))
    means = Posterior(torch.tensor([[[1.0, 5, 7]], [[0, 0, 0]]]), torch.zeros(2, 1, 3))
    assert AdaGVAE().alike(means, batch).tolist() == [[True, False, False]]
    # N(0, 1) and N(0, 100): 1.8 this way, 47.2 the other; N(2.5, 1) and N(0, 1): 3.1 both ways.
    mixed = Posterior(torch.tensor([[[0, 2.5, 0]], [[0, 0, 0]]]), torch.tensor([[[1.0, 1, 1]], [[100, 1, 1]]]).log())
    assert AdaGVAE().alike(mixed, batch).tolist() == [[False, False, True]]
    assert AdaGVAE(symmetric=True).alike(mixed, batch).tolist() == [[False, True, True]]


@pytest.mark.parametrize("method", ["gvae", "ml-vae", "ada-gvae", "ada-ml-vae", "slow-vae"])
@pytest.mark.parametrize("objective", [VAE(beta=2.0), InfoVAE(lambda_=3.0)])
def test_the_loss_is_the_mean_over_both_images(method: str, objective: VAE | InfoVAE) -> None:
    torch.manual_seed(0)
    wanted = GatedVAEConfig(CONFIG.latent, (16, 16), "fc", (16, 16), parse(METHODS, method), objective)
    vae = GatedVAE(wanted).eval()
    images = torch.randint(0, 256, (2, BATCH, 16, 16), dtype=torch.uint8)
    noise = draw_noise(wanted, BATCH, seed=0, step=1, device="cpu")
    batch = wanted.method.prepare(StepBatch(*images, "left"), 0)
    found = vae.loss(batch, noise)
    step = wanted.method.step(vae, vae.opened(batch), noise)
    pixels = images.flatten(2) / 255
    logits = torch.stack([vae.decode(codes) for codes in step.codes]).flatten(2)
    nats = -(pixels * logits - torch.nn.functional.softplus(logits)).sum(2)  # of a Bernoulli variable
    torch.testing.assert_close(found.terms["reconstruction"], nats.mean())
    standard = Normal(torch.zeros(()), torch.ones(()))
    kl = torch.stack([kl_divergence(q, standard).sum(1) for q in normals(step.posterior)]).mean()
    share = 0.5 if method == "slow-vae" else 1.0
    torch.testing.assert_close(found.terms["kl"], share * getattr(objective, "beta", 1.0) * kl)
    torch.testing.assert_close(found.total, torch.stack([*found.terms.values()]).sum())


@pytest.mark.parametrize("rate", [0.7, 6.0])
def test_the_transition_is_that_of_quadrature(rate: float) -> None:
    """KL(N(m2, s2) || Laplace about m1), by adding up densities, and by hand where both means are one."""
    both = two(1)
    z = torch.linspace(-60, 60, 240_001, dtype=torch.float64)[:, None]
    for pair in range(BATCH):
        (m1, m2), (_, logvar) = both.mean[:, pair].double(), both.logvar[:, pair].double()
        q = Normal(m2, (0.5 * logvar).exp())
        density = q.log_prob(z).exp() * 120 / 240_000
        expected = (density * (q.log_prob(z) - Laplace(m1, 1 / rate).log_prob(z))).sum(0)
        cross = laplace_cross_entropy(m2 - m1, logvar, rate)
        torch.testing.assert_close(cross - q.entropy(), expected, rtol=1e-5, atol=1e-6)
    nothing = laplace_cross_entropy(torch.zeros(1), torch.zeros(1), rate)
    assert float(nothing) == pytest.approx(rate * math.sqrt(2 / math.pi) - math.log(rate / 2))


def test_gradients_of_the_cross_entropy_are_those_of_differences() -> None:
    both = two(2)
    values = [(both.mean[0] - both.mean[1]).double().requires_grad_(), both.logvar[0].double().requires_grad_()]
    assert torch.autograd.gradcheck(lambda apart, logvar: laplace_cross_entropy(apart, logvar, 6.0), values)


@pytest.mark.parametrize("double", [False, True])
def test_a_slow_step_is_half_of_the_loss_of_a_pair(double: bool) -> None:
    """The published loss: a KL divergence, and a transition, averaged over the ways, beside the reconstructions of two."""
    method = SlowVAE(gamma=3.0, rate=2.0, double_cross_entropy=double)
    torch.manual_seed(0)
    vae = GatedVAE(CONFIG).eval()
    images = torch.randint(0, 256, (2, BATCH, 16, 16), dtype=torch.uint8)
    noise = draw_noise(CONFIG, BATCH, seed=0, step=1, device="cpu")
    step = method.step(vae, method.prepare(StepBatch(*images), 0), noise)
    first, second = normals(step.posterior)
    ways = ((first, second), (second, first))
    cross = sum(laplace_cross_entropy(q.mean - p.mean, q.variance.log(), 2.0).sum(1) for q, p in ways)
    entropy = sum(q.entropy().sum(1) for q, _ in ways)
    expected = 3.0 * (cross - entropy / 2 if double else (cross - entropy) / 2)
    torch.testing.assert_close(2 * step.own["transition"], expected)


def test_what_nothing_can_be_learnt_by_is_refused() -> None:
    for text in ("ada-gvae:k=5", "ada-ml-vae:k=9"):
        with pytest.raises(ValueError, match="the latent has 5 dimensions"):
            GatedVAEConfig(CONFIG.latent, method=parse(METHODS, text))
    for text in ("gvae", "ml-vae", "ada-gvae", "ada-ml-vae"):
        with pytest.raises(ValueError, match="give a beta above 0"):
            GatedVAEConfig(CONFIG.latent, method=parse(METHODS, text), objective=VAE(beta=0.0))
        with pytest.raises(ValueError, match="give a beta above 0"):
            GatedVAEConfig(CONFIG.latent, method=parse(METHODS, text), kl_weights=dict.fromkeys(CONFIG.latent, 0.0))
    for text in ("partners", "slow-vae"):
        GatedVAEConfig(CONFIG.latent, method=parse(METHODS, text), objective=VAE(beta=0.0))
    with pytest.raises(ValueError, match="has to be known"):
        GVAE().alike(two(), StepBatch(torch.empty(0), torch.empty(0)))
    for text in ("ada-gvae:k=-1", "slow-vae:rate=0", "slow-vae:gamma=-1"):
        with pytest.raises(ValueError, match="must be"):
            parse(METHODS, text)
