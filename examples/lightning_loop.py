"""pip install '.[cpu]' lightning; python examples/lightning_loop.py STORE --epochs 2 --workers 2

Trains a gated VAE in Lightning's loop instead of `pipe train`'s. STORE is a store with pairs (`make demo` leaves one in
out/demo/store) or the address of a pairing service. Run again with --resume CHECKPOINT, it goes on with the next epoch.

A `PairLoader` is a torch IterableDataset: a DataLoader takes it with batch_size=None, its workers share the batches, and several
devices the pairs of each. Lightning's own samplers have nothing to do.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from gated_vae import GatedVAE, GatedVAEConfig, PairBatch, PairLoader
from gated_vae.models.methods.base import StepBatch


class Pairs(lightning.LightningDataModule):
    """A store's pairs, and how far training has come in them."""

    def __init__(self, source: str, batch_size: int, workers: int) -> None:
        super().__init__()
        self.source, self.batch_size, self.workers = source, batch_size, workers
        self.loader = PairLoader(source, batch_size)

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Every device has its rank's pairs of each batch."""
        if self.trainer is not None and self.trainer.world_size > 1:
            ranks = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
            self.loader = PairLoader(self.source, self.batch_size // ranks["world_size"], **ranks)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Workers stay from epoch to epoch; they are started, not forked, as a service needs it."""
        how: dict[str, Any] = {"persistent_workers": True, "multiprocessing_context": "spawn"} if self.workers else {}
        return DataLoader(self.loader, batch_size=None, num_workers=self.workers, **how)

    def state_dict(self) -> dict[str, int]:
        """Lightning saves it in its checkpoints. It does not ask for an epoch's end: with the last batch that is over."""
        state = self.loader.state_dict()
        return {**state, "epoch": state["epoch"] + 1, "step": 0} if state["step"] == len(self.loader) else state

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a checkpoint; positions of other pairs are refused."""
        self.loader.load_state_dict(state_dict)


class Gated(lightning.LightningModule):
    """The model with its one loss."""

    def __init__(self, config: GatedVAEConfig) -> None:
        super().__init__()
        self.vae = GatedVAE(config)

    def training_step(self, batch: PairBatch, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Encode the inputs, open one partition to gradients, reconstruct the targets."""
        config = self.vae.config
        step = config.method.prepare(StepBatch(batch.input, batch.target, batch.partition), turn=0)
        noise = torch.randn(3, len(batch.target), config.latent_size, device=self.device)
        loss = self.vae.loss(step, noise)
        self.log_dict({f"{name}/{step.label}": term for name, term in loss.terms.items()}, batch_size=len(batch.target))
        self.log("loss", loss.total.detach(), prog_bar=True, batch_size=len(batch.target))
        return loss.total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As `pipe train` has it."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    """Read the options and train."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--out", default="out/lightning")
    options.add_argument("--resume", metavar="CHECKPOINT")
    given = options.parse_args()
    pairs = Pairs(given.store, given.batch_size, given.workers)
    height, width, *_ = pairs.loader.store.manifest["image_shape"]
    config = GatedVAEConfig(dict.fromkeys(pairs.loader.partitions, 6), (height, width), network="fc")
    trainer = lightning.Trainer(max_epochs=given.epochs, default_root_dir=given.out, log_every_n_steps=10)
    trainer.fit(Gated(config), pairs, ckpt_path=given.resume)
    print(
        f"epochs {trainer.current_epoch}, steps {trainer.global_step}, loss {float(trainer.callback_metrics['loss']):.2f}"
    )
    print(f"next: {pairs.state_dict()}")


if __name__ == "__main__":
    main()
