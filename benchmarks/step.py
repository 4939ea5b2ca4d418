"""A training step beside its own matrix products: `python -m benchmarks.step [--repeats 15] [--precision bf16]`.

The floor is the products of the fully connected network alone (five large, six small a step). The step is model, loss, backward
pass and optimiser on one resident batch of 128 sprites-sized images, on one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

from benchmarks.timing import alternate, ratio, show
from models.objectives import ObjectiveConfig
from models.vae import PRECISIONS, GatedVAE, GatedVAEConfig, draw_noise
from pipelines.processor import keep_freed_memory

BATCH, PIXELS = 128, 4096
LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}


def step_of(width: int, precision: str, *, gate: bool = True, context: str = "input") -> Callable[[], None]:
    """A function that does one training step."""
    torch.manual_seed(0)
    objective = ObjectiveConfig("beta", beta=4.0)
    config = GatedVAEConfig(
        LATENT, network="fc", widths=(width, width), objective=objective, gate=gate, context=context
    )
    model = GatedVAE(config, precision)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    images = (torch.rand(BATCH, 64, 64) < 0.05).to(torch.uint8) * 255
    target = images.flip(0)

    def step() -> None:
        noise = draw_noise(config, BATCH, seed=0, step=1, device="cpu")
        model.loss(images, target if gate else images, "shape" if gate else None, noise).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def products_of(width: int, precision: str) -> Callable[[], None]:
    """A function that does the step's matrix products and nothing else."""
    dtype = PRECISIONS[precision]
    image, hidden = torch.randn(BATCH, PIXELS).to(dtype), torch.randn(BATCH, width).to(dtype)
    outer, inner = torch.randn(width, PIXELS).to(dtype), torch.randn(width, width).to(dtype)

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    records = []
    for width in (512, 1200):
        times = alternate(
            {
                "products": products_of(width, options.precision),
                "gated": step_of(width, options.precision),
                "ungated": step_of(width, options.precision, gate=False),
                "exchange": step_of(width, options.precision, context="target"),
            },
            options.repeats,
        )
        stage = f"step, width {width}, {options.precision}"
        records.append(ratio(stage, "its matrix products", times["gated"], times["products"], 1.4))
        records.append(ratio(f"{stage}, gate", "no gate", times["gated"], times["ungated"], 1.03))
        records.append(ratio(f"{stage}, exchange", "gate", times["exchange"], times["gated"], 1.25))
    return show(records)


if __name__ == "__main__":
    sys.exit(main())
