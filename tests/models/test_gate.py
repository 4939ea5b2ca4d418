"""The gate changes no value and lets no gradient through a closed partition."""

import pytest
import torch

from gated_vae.models.methods.base import Method, StepBatch, compose, gate, partition_masks, partition_slices
from gated_vae.models.methods.composed import Composed
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate
from gated_vae.models.methods.partners import Partners
from gated_vae.models.objectives import BetaVAE, InfoVAE, Posterior, gaussian_kl, mmd
from gated_vae.models.registry import OBJECTIVES, parse
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise

LATENT = {"pose": 2, "expression": 3, "rest": 1}


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def model(**options: object) -> GatedVAE:
    torch.manual_seed(0)
    config = GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(24, 24), **options)  # type: ignore[arg-type]
    return GatedVAE(config)


def pairs(partition: str | None) -> StepBatch:
    return StepBatch(images(8, 1), images(8, 2), partition)


def test_partitions_lie_side_by_side_in_the_order_given() -> None:
    assert partition_slices(LATENT) == {"pose": slice(0, 2), "expression": slice(2, 5), "rest": slice(5, 6)}
    owned = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert torch.equal(partition_masks(LATENT), torch.tensor(owned).bool())


@pytest.mark.parametrize("latent", [{}, {"pose": 0}, {"pose": 2, "expression": -1}])
def test_a_partition_without_dimensions_is_refused(latent: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one latent dimension"):
        partition_slices(latent)


def test_gate_keeps_values_and_closes_the_others_exactly() -> None:
    latent = torch.randn(7, 6, requires_grad=True)
    gated = gate(latent, torch.tensor([0, 0, 1, 1, 1, 0]).bool())
    assert torch.equal(gated, latent)
    weights = torch.randn(7, 6)
    (gated * weights).sum().backward()
    expected = torch.zeros(7, 6)
    expected[:, 2:5] = weights[:, 2:5]
    assert torch.equal(latent.grad, expected)


def test_exchange_takes_one_partition_of_the_input_and_the_rest_of_the_target() -> None:
    class Identity:
        """Images are their own codes, with noise of standard deviation 1."""

        def encode(self, codes: torch.Tensor) -> Posterior:
            return Posterior(codes, torch.zeros_like(codes))

    own, context = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    batch = StepBatch(own, context, through=torch.tensor([1, 1, 0, 0, 0, 0]).bool())
    noise = torch.randn(3, 4, 6)
    mixed = Exchange().step(Identity(), batch, noise).codes  # type: ignore[arg-type]
    assert torch.equal(mixed, torch.cat([(own + noise[0])[:, :2], (context + noise[1])[:, 2:]], 1))
    mixed.sum().backward()
    assert context.grad is None
    assert torch.equal(own.grad, torch.tensor([[1.0, 1, 0, 0, 0, 0]]).expand(4, 6))


@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("method", [Gate(), Exchange()])
@pytest.mark.parametrize("partition", list(LATENT))
def test_no_gradient_reaches_the_heads_of_a_closed_partition(objective: str, method: Method, partition: str) -> None:
    """The last layer's rows are the heads of single dimensions: those of closed partitions get exactly zero."""
    vae = model(objective=parse(OBJECTIVES, objective), method=method)
    noise = draw_noise(vae.config, 8, seed=0, step=1, device="cpu")
    vae.loss(pairs(partition), noise).total.backward()
    heads = vae.encoder.layers[-1]
    reached = {int(row) for row in heads.weight.grad.abs().sum(1).nonzero()}
    own = range(6)[vae.partitions[partition]]
    assert reached == {*own, *(row + 6 for row in own)}
    assert set(heads.bias.grad.nonzero().flatten().tolist()) == reached
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in vae.decoder.parameters())


def test_a_partition_may_pay_more_for_its_divergence() -> None:
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    plain, weighted = model(), model(kl_weights={"expression": 3.0})
    divergence = gaussian_kl(plain.encode(images(8, 1))).detach()
    kl = {name: float(divergence[own].sum()) for name, own in plain.partitions.items()}
    found = weighted.loss(pairs(None), noise).terms["kl"]
    assert float(found) == pytest.approx(sum(kl.values()) + 2 * kl["expression"], rel=1e-5)
    assert weighted.state_dict().keys() == plain.state_dict().keys()
    for wrong in ({"mouth": 1.0}, {"pose": -1.0}):
        with pytest.raises(ValueError, match="KL weights"):
            model(kl_weights=wrong)


def test_forward_is_bit_identical_with_and_without_the_gate() -> None:
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    losses = [model().loss(pairs(partition), noise) for partition in (None, *LATENT)]
    for loss in losses[1:]:
        assert torch.equal(loss.total, losses[0].total)
        assert loss.terms == losses[0].terms


def test_the_gradient_through_the_open_partition_is_the_ungated_one() -> None:
    """Numerically: the heads of the open partition are moved by the same loss, gate or no gate."""
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    gradients = []
    for partition in (None, "expression"):
        vae = model()
        vae.loss(pairs(partition), noise).total.backward()
        gradients.append(vae.encoder.layers[-1].weight.grad)
    open_rows = [2, 3, 4, 8, 9, 10]
    torch.testing.assert_close(gradients[1][open_rows], gradients[0][open_rows], rtol=1e-5, atol=1e-6)


def test_the_regulariser_may_pass_around_the_gate() -> None:
    """With `regulariser` off, closed heads get the regulariser's gradient and nothing else."""
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    vae = model(method=Gate(regulariser=False), objective=BetaVAE(3.0))
    vae.loss(pairs("pose"), noise).total.backward()
    got = vae.encoder.layers[-1].weight.grad[5]
    alone = model()
    posterior = alone.encode(images(8, 1))
    (3.0 * 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).sum(1).mean()).backward()
    torch.testing.assert_close(got, alone.encoder.layers[-1].weight.grad[5], rtol=1e-5, atol=1e-7)


def test_the_discrepancy_passes_around_the_gate_with_the_regulariser() -> None:
    """InfoVAE's is of samples: with the gate's regulariser off, closed heads get what they get in an ordinary VAE."""
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    objective = InfoVAE(alpha=1.0, lambda_=50.0)  # the discrepancy alone
    vae = model(method=Gate(regulariser=False), objective=objective)
    vae.loss(pairs("pose"), noise).total.backward()
    alone = model()
    posterior, prior = alone.encode(images(8, 1)), noise[2]
    (50.0 * mmd(posterior.sample(noise[0]), prior)).backward()
    got, expected = vae.encoder.layers[-1].weight.grad, alone.encoder.layers[-1].weight.grad
    torch.testing.assert_close(got[5], expected[5], rtol=1e-4, atol=1e-6)
    assert got[5].abs().max() > 0


def test_compose_takes_each_partition_of_a_latent_of_its_own() -> None:
    latents = torch.randn(3, 4, 6, requires_grad=True)
    composed = compose(latents, partition_slices(LATENT).values())
    assert torch.equal(composed, torch.cat([latents[0][:, :2], latents[1][:, 2:5], latents[2][:, 5:]], 1))
    composed.sum().backward()
    expected = torch.zeros(3, 4, 6)
    expected[0, :, :2], expected[1, :, 2:5], expected[2, :, 5:] = 1, 1, 1
    assert torch.equal(latents.grad, expected)


def test_composed_codes_are_those_of_partners_that_come_from_the_batch_itself() -> None:
    """Encoded once and distributed, or encoded once for each target: the same loss and gradients."""
    noise = draw_noise(GatedVAEConfig(LATENT), 5, seed=0, step=1, device="cpu")
    batch, target = images(5, 1), images(5, 4)
    sources = torch.tensor([[4, 3, 2, 1, 0], [0, 0, 1, 3, 4], [1, 2, 3, 4, 0]])
    composed, partners = model(method=Composed()).eval(), model(method=Partners()).eval()
    losses = [
        composed.loss(StepBatch(batch, target, sources=sources), noise),
        partners.loss(StepBatch(batch[sources], target), noise),
    ]
    torch.testing.assert_close(losses[0].total, losses[1].total)
    for loss in losses:
        loss.total.backward()
    for mine, theirs in zip(composed.parameters(), partners.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("partition", list(LATENT))
def test_with_partners_a_partition_learns_from_its_own_partner_alone(partition: str) -> None:
    """The loss and its gradients in one partition's heads do not change with what the other partners' encodings of it would be.

    Worked out by hand from one image at a time: the composed loss is that of decoding the three pieces side by side.
    """
    vae = model(method=Partners()).eval()  # batch statistics would mix the partners
    noise = draw_noise(vae.config, 5, seed=0, step=1, device="cpu")
    partners = torch.stack([images(5, seed) for seed in (1, 2, 3)])
    loss = vae.loss(StepBatch(partners, images(5, 4)), noise)
    loss.total.backward()
    head = vae.encoder.state_dict(keep_vars=True)
    last = [tensor for tensor in head.values() if tensor.shape[:1] == (12,)]
    found = [tensor.grad[vae.partitions[partition]].clone() for tensor in last]

    posteriors = [vae.encode(one) for one in partners]
    codes = [posterior.sample(noise[0]) for posterior in posteriors]
    own = list(LATENT).index(partition)
    pieces = [
        code[:, through] if index == own else code[:, through].detach()
        for index, (code, through) in enumerate(zip(codes, vae.partitions.values(), strict=True))
    ]
    kl = sum(
        (0.5 * (p.mean**2 + p.logvar.exp() - 1 - p.logvar)).mean(0)[through].sum()
        for p, through in zip(posteriors, vae.partitions.values(), strict=True)
    )
    pixels = images(5, 4) / 255
    logits = vae.decode(torch.cat(pieces, 1))
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / 5 + kl
    vae.zero_grad()
    by_hand.backward()
    assert float(loss.total.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-6)
    for tensor, gradient in zip(last, found, strict=True):
        torch.testing.assert_close(tensor.grad[vae.partitions[partition]], gradient)
