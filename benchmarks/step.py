"""A training step beside its own arithmetic: `python -m benchmarks.step [--device cuda] [--precision bf16]`.

The floor is the matrix products and convolutions of the network alone, forward, into inputs and into weights, but for the
images' own gradient. The step is model, loss, backward pass and optimiser on one resident batch of 128 images of 64 x 64, on
one thread: the fully connected network of widths 512 and 1200, and the convolutional one with 24 dimensions. Precision: the one
that `--precision auto` takes; where bfloat16 is in hardware, it is compared with float32. The step is compiled, too.

On CUDA a turn is as many steps as hide what starting and waiting cost, and three more records follow: operations in a step that
make the host wait for the device (the bar is none), a step whose images come from the host against a resident one, and speed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

from benchmarks.timing import Record, alternate, figure, ratio, show
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.objectives import BetaVAE
from gated_vae.models.registry import PRECISIONS
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pipelines.training.processor import choose_device, choose_precision, keep_freed_memory, why_not_compile

BATCH = 128
STEPS_PER_TURN = {"cpu": 1, "cuda": 50}
LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}
NETWORKS = {
    "width 512": GatedVAEConfig(LATENT, network="fc", hidden=(512, 512)),
    "width 1200": GatedVAEConfig(LATENT, network="fc", hidden=(1200, 1200)),
    "convolutional": GatedVAEConfig({"pose": 6, "expression": 18}),
}

Work = Callable[[], None]


def step_of(config: GatedVAEConfig, precision: str, device: str, *, fed: bool = False, compiled: bool = False) -> Work:
    """A function that does one training step; `fed` from images that lie in the host's memory."""
    torch.manual_seed(0)
    model = GatedVAE(config, precision).to(device)
    if compiled:
        model.compile_loss()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    image = (torch.rand(BATCH, 64, 64) < 0.05).to(torch.uint8) * 255
    host = [image, image.flip(0)]
    if fed:
        host = [image.pin_memory() for image in host]  # as the loader does for a GPU
    resident = [image.to(device) for image in host]
    partition = next(iter(config.latent))

    def step() -> None:
        pair = [image.to(device, non_blocking=True) for image in host] if fed else resident
        noise = draw_noise(config, BATCH, seed=0, step=1, device=device)
        batch = config.method.prepare(StepBatch(pair[0], pair[1], partition), 0)
        model.loss(batch, noise).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def products_of(config: GatedVAEConfig, precision: str, device: str) -> Work:
    """A function that does the step's matrix products and convolutions and nothing else."""
    model = GatedVAE(config, precision).to(device)
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
    image = torch.zeros(BATCH, *config.image_shape, dtype=torch.uint8, device=device)
    model.decode(model.encode(image).mean)

    def products() -> None:
        for call in calls:
            call()

    return products


def turn_of(work: Work, device: str) -> Work:
    """So many runs of `work`, and on CUDA the wait until the device has done them."""
    kind = torch.device(device).type

    def turn() -> None:
        for _ in range(STEPS_PER_TURN[kind]):
            work()
        if kind == "cuda":
            torch.cuda.synchronize()

    return turn


def waits_in(step: Work) -> int:
    """How many operations of a step make the host wait for the CUDA device, as PyTorch tells them."""
    step()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in told)


def compare(name: str, precision: str, device: str, repeats: int) -> Iterator[Record]:
    gated = replace(NETWORKS[name], objective=BetaVAE())
    works = {
        "products": products_of(gated, precision, device),
        "gated": step_of(gated, precision, device),
        "ungated": step_of(replace(gated, method=Ungated()), precision, device),
        "exchange": step_of(replace(gated, method=Exchange()), precision, device),
    }
    if not why_not_compile(device):
        works["compiled"] = step_of(gated, precision, device, compiled=True)
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda or torch.cpu._is_avx512_bf16_supported():
        works |= {other: step_of(gated, other, device) for other in PRECISIONS if other != precision}
    if on_cuda:
        works["fed"] = step_of(gated, precision, device, fed=True)
    times = alternate({name: turn_of(work, device) for name, work in works.items()}, repeats)
    stage = f"training step, {name}, {precision}" + (f", {torch.cuda.get_device_name()}" if on_cuda else "")
    floor = "its products and convolutions" if gated.network == "conv" else "its matrix products"
    yield ratio(stage, floor, times["gated"], times["products"], 1.4)
    yield ratio(stage, "itself without the gate", times["gated"], times["ungated"], 1.03)
    yield ratio(f"{stage}, exchange gate", "gate", times["exchange"], times["gated"], 1.25)
    if "compiled" in times:
        yield ratio(f"{stage}, compiled", "itself as it is written", times["compiled"], times["gated"])
    for other in PRECISIONS.keys() & times.keys():
        yield ratio(stage, f"itself in {other}", times["gated"], times[other], 1.0)
    if on_cuda:
        yield figure(f"{stage}, host waits for device", "", waits_in(works["fed"]), "times a step", 0)
        yield ratio(f"{stage}, fed by the host", "resident batch", times["fed"], times["gated"], 1.1)
        speed = BATCH * STEPS_PER_TURN["cuda"] / times["fed"] / 1000
        yield figure(f"{stage}, fed by the host", "", speed, "thousand images/s", at_most=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--precision", choices=["auto", *PRECISIONS], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    return show(record for name in NETWORKS for record in compare(name, precision, device, options.repeats))


if __name__ == "__main__":
    sys.exit(main())
