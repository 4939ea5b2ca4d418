"""The gate changes no value and lets no gradient through a closed partition."""

import pytest
import torch

from models.gate import exchange, gate, partition_slices
from models.objectives import OBJECTIVES, ObjectiveConfig
from models.vae import GatedVAE, GatedVAEConfig, draw_noise

LATENT = {"pose": 2, "expression": 3, "rest": 1}


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def model(**options: object) -> GatedVAE:
    torch.manual_seed(0)
    config = GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", widths=(24, 24), **options)  # type: ignore[arg-type]
    return GatedVAE(config)


def test_partitions_lie_side_by_side_in_the_order_given() -> None:
    assert partition_slices(LATENT) == {"pose": slice(0, 2), "expression": slice(2, 5), "rest": slice(5, 6)}


@pytest.mark.parametrize("latent", [{}, {"pose": 0}, {"pose": 2, "expression": -1}])
def test_a_partition_without_dimensions_is_refused(latent: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one latent dimension"):
        partition_slices(latent)


def test_gate_keeps_values_and_closes_the_others_exactly() -> None:
    latent = torch.randn(7, 6, requires_grad=True)
    gated = gate(latent, slice(2, 5))
    assert torch.equal(gated, latent)
    weights = torch.randn(7, 6)
    (gated * weights).sum().backward()
    expected = torch.zeros(7, 6)
    expected[:, 2:5] = weights[:, 2:5]
    assert torch.equal(latent.grad, expected)


def test_exchange_takes_one_partition_of_the_input_and_the_rest_of_the_target() -> None:
    own, context = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    mixed = exchange(own, context, slice(0, 2))
    assert torch.equal(mixed, torch.cat([own[:, :2], context[:, 2:]], 1))
    mixed.sum().backward()
    assert context.grad is None
    assert torch.equal(own.grad, torch.tensor([[1.0, 1, 0, 0, 0, 0]]).expand(4, 6))


@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("context", ["input", "target"])
@pytest.mark.parametrize("partition", list(LATENT))
def test_no_gradient_reaches_the_heads_of_a_closed_partition(objective: str, context: str, partition: str) -> None:
    """The last layer's rows are the heads of single dimensions: those of closed partitions get exactly zero."""
    vae = model(objective=ObjectiveConfig(objective), context=context)
    noise = draw_noise(vae.config, 8, seed=0, step=1, device="cpu")
    vae.loss(images(8, 1), images(8, 2), partition, noise).total.backward()
    heads = vae.encoder.layers[-1]
    reached = {int(row) for row in heads.weight.grad.abs().sum(1).nonzero()}
    own = range(6)[vae.partitions[partition]]
    assert reached == {*own, *(row + 6 for row in own)}
    assert set(heads.bias.grad.nonzero().flatten().tolist()) == reached
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in vae.decoder.parameters())


def test_forward_is_bit_identical_with_and_without_the_gate() -> None:
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    losses = [model().loss(images(8, 1), images(8, 2), partition, noise) for partition in (None, *LATENT)]
    for loss in losses[1:]:
        assert torch.equal(loss.total, losses[0].total)
        assert loss.terms == losses[0].terms


def test_the_gradient_through_the_open_partition_is_the_ungated_one() -> None:
    """Numerically: the heads of the open partition are moved by the same loss, gate or no gate."""
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    gradients = []
    for partition in (None, "expression"):
        vae = model()
        vae.loss(images(8, 1), images(8, 2), partition, noise).total.backward()
        gradients.append(vae.encoder.layers[-1].weight.grad)
    open_rows = [2, 3, 4, 8, 9, 10]
    torch.testing.assert_close(gradients[1][open_rows], gradients[0][open_rows], rtol=1e-5, atol=1e-6)


def test_the_regulariser_may_pass_around_the_gate() -> None:
    """With `gate_regulariser` off, closed heads get the regulariser's gradient and nothing else."""
    noise = draw_noise(GatedVAEConfig(LATENT), 8, seed=0, step=1, device="cpu")
    vae = model(gate_regulariser=False, objective=ObjectiveConfig("beta", beta=3.0))
    vae.loss(images(8, 1), images(8, 2), "pose", noise).total.backward()
    got = vae.encoder.layers[-1].weight.grad[5]
    alone = model()
    posterior = alone.encode(images(8, 1))
    (3.0 * 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).sum(1).mean()).backward()
    torch.testing.assert_close(got, alone.encoder.layers[-1].weight.grad[5], rtol=1e-5, atol=1e-7)


def test_exchange_without_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the gate"):
        GatedVAEConfig(LATENT, gate=False, context="target")
