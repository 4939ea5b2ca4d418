"""A training step beside its own matrix products: `python -m benchmarks.step [--device cuda] [--precision bf16]`.

The floor is the products of the fully connected network alone (five large, six small a step). The step is model, loss, backward
pass and optimiser on one resident batch of 128 sprites-sized images, on one thread. Precision: bf16 where it is in hardware.

On CUDA a turn is as many steps as hide what starting and waiting cost, and three more records follow: operations in a step that
make the host wait for the device (the bar is none), a step whose images come from the host against a resident one, and speed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator

import torch

from benchmarks.timing import Record, alternate, figure, ratio, show
from models.objectives import ObjectiveConfig
from models.vae import PRECISIONS, GatedVAE, GatedVAEConfig, draw_noise
from pipelines.processor import choose_device, choose_precision, keep_freed_memory

BATCH, PIXELS = 128, 4096
STEPS_PER_TURN = {"cpu": 1, "cuda": 50}
LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}


Work = Callable[[], None]


def step_of(
    width: int, precision: str, device: str, *, gate: bool = True, context: str = "input", fed: bool = False
) -> Work:
    """A function that does one training step; `fed` from images that lie in the host's memory."""
    torch.manual_seed(0)
    objective = ObjectiveConfig("beta", beta=4.0)
    config = GatedVAEConfig(
        LATENT, network="fc", widths=(width, width), objective=objective, gate=gate, context=context
    )
    model = GatedVAE(config, precision).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    image = (torch.rand(BATCH, 64, 64) < 0.05).to(torch.uint8) * 255
    host = [image, image.flip(0)]
    if fed:
        host = [image.pin_memory() for image in host]  # as the loader does for a GPU
    resident = [image.to(device) for image in host]

    def step() -> None:
        pair = [image.to(device, non_blocking=True) for image in host] if fed else resident
        noise = draw_noise(config, BATCH, seed=0, step=1, device=device)
        model.loss(pair[0], pair[1] if gate else pair[0], "shape" if gate else None, noise).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def products_of(width: int, precision: str, device: str) -> Work:
    """A function that does the step's matrix products and nothing else."""
    kind = {"dtype": PRECISIONS[precision], "device": device}
    image, hidden = torch.randn(BATCH, PIXELS).to(**kind), torch.randn(BATCH, width).to(**kind)
    outer, inner = torch.randn(width, PIXELS).to(**kind), torch.randn(width, width).to(**kind)

    def products() -> None:
        for _ in range(2):  # encoder's first layer and its weight gradient; the decoder's last layer likewise
            hidden.T @ image
        image @ outer.T
        hidden @ outer
        image @ outer.T  # into the decoder's last hidden layer
        for _ in range(4):  # the two hidden layers: forward, and into their inputs
            hidden @ inner
        for _ in range(2):
            hidden.T @ hidden

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


def compare(width: int, precision: str, device: str, repeats: int) -> Iterator[Record]:
    works = {
        "products": products_of(width, precision, device),
        "gated": step_of(width, precision, device),
        "ungated": step_of(width, precision, device, gate=False),
        "exchange": step_of(width, precision, device, context="target"),
    }
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        works["fed"] = step_of(width, precision, device, fed=True)
    times = alternate({name: turn_of(work, device) for name, work in works.items()}, repeats)
    stage = f"training step, width {width}, {precision}" + (f", {torch.cuda.get_device_name()}" if on_cuda else "")
    yield ratio(stage, "its matrix products", times["gated"], times["products"], 1.4)
    yield ratio(stage, "itself without the gate", times["gated"], times["ungated"], 1.03)
    yield ratio(f"{stage}, exchange gate", "gate", times["exchange"], times["gated"], 1.25)
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
    return show(record for width in (512, 1200) for record in compare(width, precision, device, options.repeats))


if __name__ == "__main__":
    sys.exit(main())
