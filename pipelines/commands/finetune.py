"""`pipe finetune`: the decoder alone, for sharp reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.commands.trained import show_training
from gated_vae.pipelines.options import AsJson, Device, MovedStore, Overwrite, RunPath, option


def finetune(
    run: RunPath,
    out: Annotated[Path | None, option("Folder of the new run that has the tuned decoder.", "RUN/finetuned")] = None,
    epochs: Annotated[
        int | None, option("Length of the training in epochs: how often all pairs are visited.", "1", min=1)
    ] = None,
    steps: Annotated[int | None, option("Length of the training in steps, in place of --epochs.", min=1)] = None,
    lr: Annotated[
        float | None,
        option("Learning rate of Adam; lower it for what shows faintly, and where the loss is no number.", "the run's"),
    ] = None,
    store: MovedStore = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train the decoder alone, for sharp reconstructions.

    Target = input, while encoder and latent stay as they are.

    A gated model is trained to reconstruct images that share only some factors, so its reconstructions are blurred in the
    others. This sharpens them and moves no code. The result is a run of its own.

    Example: pipe finetune run
    """
    from dataclasses import replace

    from gated_vae.models.methods.vae import Ungated
    from gated_vae.pipelines import console
    from gated_vae.pipelines.process import choose_device
    from gated_vae.pipelines.training.config import TrainOptions
    from gated_vae.pipelines.training.run import TUNED, open_run, recorded
    from gated_vae.pipelines.training.train import train

    base = open_run(run, store)
    images = base.store()
    config = replace(
        base.config,
        store=str(images.path),
        steps=steps,
        epochs=epochs or (None if steps else 1),
        lr=base.config.lr if lr is None else lr,
        model=replace(base.config.model, method=Ungated()),  # target = input
        decoder_only=True,
        augment="none",
        warmup=0,
        keep="last",
        checkpoint_every=None,
        earlier=(),
        initial=str(run),
        initial_weights=base.weights_digest(),
    )
    out = out or run / TUNED
    before = None if overwrite else recorded(out)
    where = choose_device(device, before.device if before else None)
    options = TrainOptions(out, device=where, overwrite=overwrite)
    with console.progress("finetune", "steps") as update:
        report = train(config, options, update, images)
    show_training(report, as_json=as_json)
