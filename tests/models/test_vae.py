"""Networks, precision and noise of the model."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.networks import Linear
from gated_vae.models.objectives import Bernoulli, Gaussian, InfoVAE
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise

LATENT = {"pose": 2, "expression": 3}


@pytest.mark.parametrize(("network", "hidden"), [("fc", ()), ("fc", (40,)), ("conv", ()), ("conv", (8, 16, 32))])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shapes_and_dtypes(network: str, hidden: tuple[int, ...], precision: str) -> None:
    vae = GatedVAE(GatedVAEConfig(LATENT, network=network, hidden=hidden), precision)
    images = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    posterior = vae.encode(images)
    assert posterior.mean.shape == posterior.logvar.shape == (3, 5)
    assert posterior.mean.dtype == torch.float32
    assert vae.decode(posterior.mean).shape == (3, 64, 64)
    assert all(parameter.dtype == torch.float32 for parameter in vae.parameters())


def test_the_paper_s_network_layer_by_layer() -> None:
    """Encoder: two layers with batch norm and ReLU, then the heads; decoder: three layers, the first two so."""
    vae = GatedVAE(GatedVAEConfig({"all": 8}, network="fc", hidden=(512, 512)))
    kinds = [type(layer) for layer in vae.encoder.layers]
    assert kinds == [nn.Flatten, Linear, nn.BatchNorm1d, nn.ReLU, Linear, nn.BatchNorm1d, nn.ReLU, Linear]
    kinds = [type(layer) for layer in vae.decoder.layers]
    assert kinds == [Linear, nn.BatchNorm1d, nn.ReLU, Linear, nn.BatchNorm1d, nn.ReLU, Linear, nn.Unflatten]
    sizes = [(layer.in_features, layer.out_features) for layer in vae.decoder.layers if isinstance(layer, Linear)]
    assert sizes == [(8, 512), (512, 512), (512, 4096)]


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved 4 times"):
        GatedVAE(GatedVAEConfig(LATENT, image_shape=(60, 64), network="conv", hidden=(2, 2, 2, 2, 8)))
    with pytest.raises(ValueError, match="cannot be halved:"):
        GatedVAE(GatedVAEConfig(LATENT, image_shape=(63, 64), network="conv"))


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [
        ((64, 64), (32, 32, 64, 64, 256)),
        ((32, 32), (32, 32, 64, 256)),
        ((8, 16), (32, 256)),
        ((128, 96), (32, 32, 64, 64, 256)),  # down to 8 x 6
        ((60, 64), (32, 32, 256)),  # down to 15 x 16, which is odd
    ],
)
def test_the_convolutional_network_halves_images_down_to_four_pixels(
    shape: tuple[int, int], hidden: tuple[int, ...]
) -> None:
    config = GatedVAEConfig(LATENT, image_shape=shape, network="conv")
    assert config.hidden == hidden  # a run records what it has
    vae = GatedVAE(config)
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    assert vae.decode(vae.encode(images).mean).shape == (2, *shape)


def test_pixels_are_scaled_to_one() -> None:
    vae = GatedVAE(GatedVAEConfig(LATENT, network="fc", hidden=(4,)))
    scaled = vae.pixels(torch.tensor([[[0, 51, 255]]], dtype=torch.uint8))
    torch.testing.assert_close(scaled, torch.tensor([[[0.0, 0.2, 1.0]]]))


def test_linear_in_bfloat16_has_the_gradients_of_torch_s_autocast() -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(30, 20), nn.Linear(30, 20)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(10, 30, requires_grad=True)
    ours(x.bfloat16()).float().square().sum().backward()
    into_x, x.grad = x.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        theirs(x).float().square().sum().backward()
    torch.testing.assert_close(into_x, x.grad, rtol=2e-2, atol=2e-1)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=2e-2, atol=2e-1)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=2e-2, atol=2e-1)
    assert ours.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("network", ["fc", "conv"])
def test_bfloat16_stays_close_to_float32(network: str) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        vae = GatedVAE(GatedVAEConfig(LATENT, network=network), precision)
        images = torch.randint(0, 256, (16, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        noise = draw_noise(vae.config, 16, seed=0, step=1, device="cpu")
        loss = vae.loss(StepBatch(images, images, "pose"), noise)
        loss.total.backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in vae.parameters()])
        losses.append((float(loss.total.detach()), gradient))
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-3)
    assert float(torch.cosine_similarity(losses[0][1], losses[1][1], dim=0)) > 0.99


def test_noise_depends_on_seed_and_step_alone() -> None:
    config = GatedVAEConfig(LATENT)
    first = draw_noise(config, 6, seed=3, step=10, device="cpu")
    torch.randn(5)
    assert torch.equal(first, draw_noise(config, 6, seed=3, step=10, device="cpu"))
    assert not torch.equal(first, draw_noise(config, 6, seed=3, step=11, device="cpu"))
    assert not torch.equal(first, draw_noise(config, 6, seed=4, step=10, device="cpu"))
    many = torch.cat([draw_noise(config, 100, seed=0, step=step, device="cpu").flatten() for step in range(40)])
    assert abs(float(many.mean())) < 0.02
    assert float(many.std()) == pytest.approx(1.0, abs=0.02)


def test_config_survives_json() -> None:
    import json

    config = GatedVAEConfig(LATENT, hidden=(3, 4), method=Exchange(open_every=3), objective=InfoVAE(alpha=0.1))
    for model in (config, replace(config, likelihood=Gaussian()), replace(config, likelihood=Gaussian(0.1))):
        assert GatedVAEConfig.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_a_learnt_scale_is_the_only_tensor_that_a_likelihood_adds() -> None:
    """And it draws no random number: the other weights begin alike."""
    models = []
    for likelihood in (Bernoulli(), Gaussian(0.1), Gaussian()):
        torch.manual_seed(0)
        models.append(GatedVAE(GatedVAEConfig(LATENT, likelihood=likelihood)))
    plain, fixed, learnt = (model.state_dict() for model in models)
    assert float(learnt.pop("raw_scale")) == 0
    assert all(torch.equal(plain[name], other[name]) for other in (fixed, learnt) for name in plain)
    assert plain.keys() == fixed.keys() == learnt.keys()
    assert not {"kl_weights", "masks", "step"} & plain.keys()  # they follow from the configuration and the step
    assert (models[0].scale, models[2].scale) == (None, pytest.approx(0.25, rel=0.02))


@pytest.mark.parametrize(
    "wrong", [{"network": "cnn"}, {"method": "both"}, {"objective": "betta"}, {"likelihood": ["normal"]}]
)
def test_unknown_choices_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="choose from"):
        GatedVAEConfig.from_dict(GatedVAEConfig(LATENT).to_dict() | wrong)


@pytest.mark.parametrize("shape", [(2, 8, 5), (3, 7, 5), (3, 8, 6), (8, 5)])
def test_noise_that_does_not_fit_the_batch_is_refused(shape: tuple[int, ...]) -> None:
    vae = GatedVAE(GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(4,)))
    images = torch.zeros(8, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the batch needs \(3, 8, 5\)"):
        vae.loss(StepBatch(images, images), torch.zeros(shape))


@pytest.mark.parametrize(
    "options",
    [
        {"latent": {"a": 2.5}},
        {"latent": {"a": True}},
        {"latent": {"a": 2**31}},
        {"latent": {"a": float("nan")}},
        {"latent": {"no gate": 2}},
        {"image_shape": (0, 16)},
        {"image_shape": (16.5, 16)},
        {"image_shape": (16, 16, 4)},
        {"hidden": (0,)},
        {"hidden": (-1, 4)},
        {"hidden": (2**31,)},
        {"kl_weights": {"a": float("nan")}},
        {"kl_weights": {"a": float("inf")}},
    ],
)
def test_a_model_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"latent|image_shape|hidden|KL weights|called"):
        GatedVAEConfig(**{"latent": {"a": 2}, "image_shape": (16, 16), "network": "fc", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (2**13, 2**13 + 1)}, "67,117,056 pixels"),
        ({"hidden": (1,) * 65}, "65 hidden layers"),
        ({"latent": {"a": 4000, "b": 97}}, "4,097 latent dimensions"),
    ],
)
def test_a_model_that_is_absurdly_large_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GatedVAEConfig(**{"latent": {"a": 2}, "image_shape": (16, 16), "network": "fc", **options})  # type: ignore[arg-type]
    assert GatedVAEConfig({"a": 2**12}, (2**13, 2**13), "fc", (1,) * 64).latent_size == 4096
    with pytest.raises(ValueError, match="precision is"):
        GatedVAE(GatedVAEConfig(LATENT), "fp16")


def test_images_and_partitions_that_do_not_fit_the_model_are_refused() -> None:
    vae = GatedVAE(GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(4,)))
    images = torch.randint(0, 256, (8, 16, 16), dtype=torch.uint8)
    noise = torch.randn(3, 8, 5)
    for pixels in (
        images.float(),
        images > 9,
        images.float() / -255,
        images * float("nan"),
        images[:, :8],
        images.flatten(1),
    ):
        for batch in (StepBatch(pixels, images), StepBatch(images, pixels)):
            with pytest.raises(ValueError, match="Images are"):
                vae.loss(batch, noise)
    scaled = [vae.loss(StepBatch(pixels, pixels), noise).total for pixels in (images, images / 255)]
    torch.testing.assert_close(*scaled)
    with pytest.raises(ValueError, match=r"no partition 'nope'; there are"):
        vae.loss(StepBatch(images, images, partition="nope"), noise)
    with pytest.raises(ValueError, match="the batch needs"):
        vae.loss(StepBatch(images, images), noise.long())
    with pytest.raises(ValueError, match="the batch needs"):
        vae(StepBatch(images, images), noise[:, :1], Shares((8,)))
