"""A training step beside pythae's: `python -m benchmarks.pythae_step --python out/pythae/bin/python [--repeats 5]`.

pythae (Chadebec, Vincent, Allassonniere 2022) pins what it needs, so it lives in an environment of its own, whose interpreter
is given here or as PYTHAE_PYTHON: `python -m venv out/pythae && out/pythae/bin/pip install pythae torch==2.13.0`. Both
train beta-VAEs of the same layers on the same number of images of the same size, one thread each, one after the other in turn:

- a step on one resident batch: pythae's model and Adam, as its trainer calls them, beside ours (gated);
- an epoch: pythae's `BaseTrainer.train_step` with its data loader, beside ours with `PairLoader`.

Both are taken of the fully connected network of width 512 and of the convolutional one with 24 dimensions.

The other process is this file, run by the other interpreter with nothing but pythae in reach.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

BATCH, SIDE, BETA = 128, 64, 4.0
LATENT = {"fc": 8, "conv": 24}
WIDTHS = {"fc": (512, 512), "conv": (32, 32, 64, 64, 256)}
STAGES = {"fc": "training, width 512", "conv": "training, convolutional"}
STEPS = {"fc": 20, "conv": 4}  # in a turn, and in an epoch of either
BAR = 4.0

Work = Callable[[], None]


def peer() -> dict[str, Work]:
    """What pythae does, by name: only called in its environment."""
    import torch
    from pythae.models.base.base_utils import ModelOutput  # type: ignore[import-not-found]
    from pythae.models.nn import BaseDecoder, BaseEncoder  # type: ignore[import-not-found]
    from torch import nn

    def hidden(inputs: int, width: int) -> list[nn.Module]:
        return [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]

    def stack(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: list[int]) -> list[nn.Module]:
        return [layer for pair in pairwise(channels) for layer in (kind(*pair, 4, stride=2, padding=1), nn.ReLU())]

    def encoder_layers(network: str) -> list[nn.Module]:
        heads = 2 * LATENT[network]
        if network == "fc":
            first, second = WIDTHS["fc"]
            return [nn.Flatten(), *hidden(SIDE * SIDE, first), *hidden(first, second), nn.Linear(second, heads)]
        *channels, width = WIDTHS["conv"]
        flat = channels[-1] * (SIDE >> len(channels)) ** 2
        return [*stack(nn.Conv2d, [1, *channels]), nn.Flatten(), *hidden(flat, width), nn.Linear(width, heads)]

    def decoder_layers(network: str) -> list[nn.Module]:
        if network == "fc":
            first, second = WIDTHS["fc"]
            return [*hidden(LATENT["fc"], second), *hidden(second, first), nn.Linear(first, SIDE * SIDE)]
        *channels, width = WIDTHS["conv"]
        side = SIDE >> len(channels)
        flat = channels[-1] * side**2
        up = stack(nn.ConvTranspose2d, [*reversed(channels), 1])[:-1]
        return [*hidden(LATENT["conv"], width), *hidden(width, flat), nn.Unflatten(1, (channels[-1], side, side)), *up]

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self, network: str) -> None:
            super().__init__()
            self.layers = nn.Sequential(*encoder_layers(network))

        def forward(self, x: torch.Tensor) -> Any:
            mean, logvar = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=logvar)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self, network: str) -> None:
            super().__init__()
            # pythae's cross-entropy is one of probabilities
            self.layers = nn.Sequential(*decoder_layers(network), nn.Sigmoid())

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).view(-1, 1, SIDE, SIDE))

    torch.set_num_threads(1)
    works: dict[str, Work] = {}
    for network in WIDTHS:
        works |= peer_of(network, Encoder(network), Decoder(network))
    return works


def peer_of(network: str, encoder: Any, decoder: Any) -> dict[str, Work]:
    """What pythae does with one network."""
    import torch
    from pythae.data.datasets import BaseDataset, DatasetOutput  # type: ignore[import-not-found]
    from pythae.models import BetaVAE, BetaVAEConfig  # type: ignore[import-not-found]
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # type: ignore[import-not-found]

    config = BetaVAEConfig(
        input_dim=(1, SIDE, SIDE),
        latent_dim=LATENT[network],
        beta=BETA,
        reconstruction_loss="bce",
        uses_default_encoder=False,
    )
    model = BetaVAE(config, encoder, decoder)
    images = (torch.rand(STEPS[network] * BATCH, 1, SIDE, SIDE) < 0.05).float()
    out = tempfile.mkdtemp()
    training = BaseTrainerConfig(
        output_dir=out, per_device_train_batch_size=BATCH, learning_rate=1e-3, optimizer_cls="Adam", no_cuda=True
    )
    trainer = BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), training_config=training)
    trainer.set_optimizer()
    trainer.set_scheduler()
    trainer._setup_callbacks()
    trainer.callback_handler.callbacks = []  # neither progress bars nor printing
    model.train()
    batch = DatasetOutput(data=images[:BATCH])

    def steps() -> None:
        for _ in range(STEPS[network]):
            trainer._optimizers_step(model(batch, epoch=1, dataset_size=len(images), uses_ddp=False))

    return {f"{network} steps": steps, f"{network} epoch": lambda: trainer.train_step(1)}


def obey(works: dict[str, Work]) -> None:
    """Do what standard input names, one word a line, and say when it is done."""
    print("ready", flush=True)
    for line in sys.stdin:
        works[line.strip()]()
        print("done", flush=True)


@contextmanager
def other_process(python: str) -> Iterator[Callable[[str], Work]]:
    """Start the peer; yields what makes a function of the name of its work."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [python, __file__, "--peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def expect(word: str) -> None:
        for line in process.stdout or ():
            if line.strip() == word:
                return
        raise RuntimeError(f"pythae in {python} has ended with exit code {process.wait()}.")

    def work(name: str) -> Work:
        def run() -> None:
            print(name, file=process.stdin, flush=True)
            expect("done")

        return run

    try:
        expect("ready")
        yield work
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def ours(folder: Path, precision: str) -> dict[str, Work]:
    """The same of this project."""
    from benchmarks.stores import make_store

    path = make_store(folder / "store", 5000).path  # of several epochs, as many steps as pythae's epoch has are taken
    return {name: work for network in WIDTHS for name, work in ours_of(network, path, precision).items()}


def ours_of(network: str, path: Path, precision: str) -> dict[str, Work]:
    """What this project does with one network."""
    from itertools import islice

    from benchmarks.loader import train_on
    from gated_vae.models.objectives import BetaVAE
    from gated_vae.models.vae import GatedVAE, GatedVAEConfig
    from gated_vae.pairing.stream.loader import PairLoader

    latent, objective = dict.fromkeys(("pose", "expression"), LATENT[network] // 2), BetaVAE(BETA)
    model = GatedVAE(GatedVAEConfig(latent, network=network, hidden=WIDTHS[network], objective=objective), precision)
    resident = next(iter(PairLoader(path, BATCH, prefetch=0)))
    return {
        f"{network} steps": lambda: train_on(iter([resident] * STEPS[network]), model),
        f"{network} epoch": lambda: train_on(islice(PairLoader(path, BATCH), STEPS[network]), model),
    }


def compare(python: str, repeats: int) -> int:
    import torch

    from benchmarks.timing import alternate, ratio, show
    from gated_vae.pipelines.process import choose_precision, keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    precision = choose_precision("auto", "cpu")
    with tempfile.TemporaryDirectory() as folder, other_process(python) as theirs:
        own = ours(Path(folder), precision)
        runs = {f"{who} {name}": work for name in own for who, work in (("our", own[name]), ("their", theirs(name)))}
        times = alternate(runs, repeats)
    return show(
        ratio(
            f"{stage}, {precision}, {what}",
            "pythae",
            times[f"our {network} {name}"],
            times[f"their {network} {name}"],
            BAR,
            at_most=False,
        )
        for network, stage in STAGES.items()
        for name, what in (("steps", "a step on a resident batch"), ("epoch", "an epoch with its loader"))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=os.environ.get("PYTHAE_PYTHON"), help="interpreter that has pythae")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        obey(peer())
        return 0
    if not options.python:
        parser.error("give --python, or set PYTHAE_PYTHON, to an interpreter that has pythae")
    return compare(options.python, options.repeats)


if __name__ == "__main__":
    sys.exit(main())
