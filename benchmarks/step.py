"""A training step beside its own arithmetic, on a processor: `python -m benchmarks.step [--precision bf16]`.

The floor is the matrix products and convolutions of the network alone, forward, into inputs and into weights, but for the
images' own gradient. The step is model, loss, backward pass and optimiser on one batch of 128 images of 64 x 64, on one thread:
the fully connected network of hidden sizes 512 and 1200, and the convolutional one with 24 dimensions. Precision: the one that
`--precision auto` takes; where bfloat16 is in hardware, it is compared with float32. On a GPU: `python -m benchmarks.gpu`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.models import networks
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.objectives import BetaVAE
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pipelines.process import choose_precision, keep_freed_memory

BATCH = 128
LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}
NETWORKS = {
    "width 512": GatedVAEConfig(LATENT, network="fc", hidden=(512, 512)),
    "width 1200": GatedVAEConfig(LATENT, network="fc", hidden=(1200, 1200)),
    "convolutional": GatedVAEConfig({"pose": 6, "expression": 18}),
}

Work = Callable[[], None]


def step_of(config: GatedVAEConfig, precision: str) -> Work:
    """A function that does one training step on one batch."""
    torch.manual_seed(0)
    model = GatedVAE(config, precision)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    image = (torch.rand(BATCH, 64, 64) < 0.05).to(torch.uint8) * 255
    batch = config.method.prepare(StepBatch(image, image.flip(0), next(iter(config.latent))), 0)

    def step() -> None:
        noise = draw_noise(config, BATCH, seed=0, step=1, device="cpu")
        model.loss(batch, noise).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def in_pytorchs_layout(step: Work) -> Work:
    """The step with convolutions in PyTorch's own layout instead of channels last."""

    def run() -> None:
        layout = networks.Conv2d.layout
        networks.Conv2d.layout = networks.ConvTranspose2d.layout = torch.preserve_format
        step()
        networks.Conv2d.layout = networks.ConvTranspose2d.layout = layout

    return run


def products_of(config: GatedVAEConfig, precision: str) -> Work:
    """A function that does the step's matrix products and convolutions and nothing else."""
    model = GatedVAE(config, precision)
    calls: list[Work] = []

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        x, grad = inputs[0].detach().clone(), torch.randn_like(output)
        assert isinstance(layer.weight, torch.Tensor)
        weight = layer.weight.detach().to(x.dtype)
        if isinstance(layer, nn.Linear):
            calls.extend([lambda: x @ weight.T, lambda: grad.T @ x])  # type: ignore[list-item, func-returns-value]
            if len(calls) > 2:  # the images' gradient is not needed
                calls.append(lambda: grad @ weight)  # type: ignore[arg-type]
            return
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        x, weight, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight, grad))
        how = (layer.stride, layer.padding, layer.dilation, layer.transposed, layer.output_padding, layer.groups)
        mask = [bool(calls), True, False]
        calls.append(lambda: torch.ops.aten.convolution(x, weight, None, *how))
        calls.append(lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *how, mask))

    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(add)
    image = torch.zeros(BATCH, *config.image_shape, dtype=torch.uint8)
    model.decode(model.encode(image).mean)

    def products() -> None:
        for call in calls:
            call()

    return products


def compare(name: str, precision: str, repeats: int) -> Iterator[Record]:
    gated = replace(NETWORKS[name], objective=BetaVAE())
    works = {
        "products": products_of(gated, precision),
        "gated": step_of(gated, precision),
        "ungated": step_of(replace(gated, method=Ungated()), precision),
        "exchange": step_of(replace(gated, method=Exchange()), precision),
    }
    other = "fp32" if precision == "bf16" else "bf16"
    if torch.cpu._is_avx512_bf16_supported():
        works[other] = step_of(gated, other)
    if gated.network == "conv":
        works["layout"] = in_pytorchs_layout(step_of(gated, precision))
    times = alternate(works, repeats)
    stage = f"training step, {name}, {precision}"
    floor = "its products and convolutions" if gated.network == "conv" else "its matrix products"
    yield ratio(stage, floor, times["gated"], times["products"], 1.4)
    yield ratio(stage, "itself without the gate", times["gated"], times["ungated"], 1.03)
    yield ratio(f"{stage}, exchange gate", "gate", times["exchange"], times["gated"], 1.25)
    if "layout" in times:
        yield ratio(f"{stage}, PyTorch's layout", "channels last", times["layout"], times["gated"])
    if other in times:
        yield ratio(stage, f"itself in {other}", times["gated"], times[other], 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    precision = choose_precision(options.precision, "cpu")
    return show(record for name in NETWORKS for record in compare(name, precision, options.repeats))


if __name__ == "__main__":
    sys.exit(main())
