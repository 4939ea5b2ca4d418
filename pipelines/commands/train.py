"""`pipe train`: a model from a store's pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gated_vae.models.registry import AUGMENTATIONS, LIKELIHOODS, METHODS, NETWORKS, OBJECTIVES, SCHEDULES, describe
from gated_vae.pipelines.commands.trained import show_seeds, show_training
from gated_vae.pipelines.options import AsJson, Device, Overwrite, Precision, SeedIfGiven, choice_of, one_of, option
from gated_vae.pipelines.presets import DEFAULT_PRESET, PRESETS

if TYPE_CHECKING:
    from gated_vae.models.objectives import Objective


def train(
    store: Annotated[
        str, typer.Argument(help="The store's folder, or grpc://HOST:PORT of `pipe serve`.", show_default=False)
    ],
    out: Annotated[Path, option("Folder of the run; one that was stopped goes on.", False)],
    preset: Annotated[
        str | None,
        one_of(
            PRESETS,
            "Settings to begin with, for all that is not said; faces-partners is best on faces.",
            "by kind of store",
        ),
    ] = None,
    method: Annotated[
        Any, choice_of(METHODS, "What a training step does with pairs; docs/methods.md says which to choose.")
    ] = None,
    objective: Annotated[
        Any, choice_of(OBJECTIVES, "What is added to the reconstruction in the loss; beta is the paper's first.")
    ] = None,
    likelihood: Annotated[
        Any,
        choice_of(LIKELIHOODS, "How the error of a pixel counts; a Gaussian without a scale learns it.", "bernoulli"),
    ] = None,
    beta: Annotated[
        float | None, option("Weight of the KL divergence; higher tells less and blurs more.", "the objective's", min=0)
    ] = None,
    latent: Annotated[
        str | None,
        option(
            "Partitions to train and their dimensions, NAME=SIZE,...; those left out are not trained.", "the preset's"
        ),
    ] = None,
    kl_weights: Annotated[
        str | None,
        option(
            "NAME=WEIGHT,... to multiply --beta by in some partitions; below 1 for one that tells too little.",
            "the preset's",
        ),
    ] = None,
    network: Annotated[
        str | None,
        one_of(NETWORKS, "Fully connected (fc) or convolutional (conv), which suits photographs.", "the preset's"),
    ] = None,
    hidden: Annotated[
        str | None, option("Sizes of the hidden layers, e.g. 512,512; larger is slower.", "the network's")
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate/--no-gate",
            help="Train an ordinary VAE with the same network, to compare with: --no-gate is --method vae.",
        ),
    ] = True,
    epochs: Annotated[
        int | None, option("Length of the training in epochs: how often all pairs are visited.", "the preset's", min=1)
    ] = None,
    steps: Annotated[int | None, option("Length of the training in steps, in place of --epochs.", min=1)] = None,
    batch_size: Annotated[int, option("How many pairs a step has, over all ranks together.", min=2)] = 128,
    lr: Annotated[
        float | None,
        option(
            "Learning rate of Adam; lower it for what shows faintly, and where the loss is no number.", "the preset's"
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        one_of(
            SCHEDULES,
            "How the learning rate goes on: constant, or cosine, which falls to 0 at the end.",
            "the preset's",
        ),
    ] = None,
    augment: Annotated[
        str | None,
        option(
            f"Vary images in every step, for codes of people who are not among them: {', '.join(AUGMENTATIONS)}.",
            "the preset's",
            metavar="none|KIND[,KIND...]",
        ),
    ] = None,
    warmup: Annotated[
        int, option("Steps over which the KL weight rises from 0, where dimensions fall silent too early.", min=0)
    ] = 0,
    keep: Annotated[
        str,
        option(
            "Which weights to use: of the last step, or of the lowest validation loss;"
            " best:N stops after N validations in a row that were no better.",
            metavar="[last|best[:N]]",
        ),
    ] = "last",
    seed: SeedIfGiven = None,
    seeds: Annotated[
        str | None,
        option(
            "Train a run with each of these seeds, 0-9 or 0,3,7, in OUT/0, OUT/1 ...: at once on a GPU, else one per core.",
            False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    initial: Annotated[
        Path | None, option("Start from the weights of another run of the same network.", "at random")
    ] = None,
    checkpoint_every: Annotated[
        int,
        option(
            "Steps between two checkpoints, and between two validations; few lose less when the run is killed.", min=1
        ),
    ] = 1000,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on beyond the end of a finished run, with more steps or epochs than it had."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a gated VAE. Stopped or killed, the same command goes on to the same weights.

    Several processes share every batch under torchrun: torchrun --nproc-per-node 2 --no-python pipe train store --out run

    Example: pipe train store --out run --epochs 30
    """
    from dataclasses import replace

    from gated_vae.models.methods.vae import Ungated
    from gated_vae.pairing.stream.address import is_address
    from gated_vae.pairing.stream.loader import open_source
    from gated_vae.pipelines import console, process
    from gated_vae.pipelines.presets import read_hidden, read_kl_weights, read_latent, read_seeds
    from gated_vae.pipelines.training import train as training
    from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
    from gated_vae.pipelines.training.run import open_run, recorded

    if not gate and method is not None:
        raise typer.BadParameter("It is --method vae; give one of the two.", param_hint="'--no-gate'")
    if seeds is not None and seed is not None:
        raise typer.BadParameter("It is one run's; give one of the two.", param_hint="'--seed' beside '--seeds'")
    many = [] if seeds is None else read_seeds(seeds)
    outs = [out / str(one) for one in many] or [out]
    before = None if overwrite else next(filter(None, map(recorded, outs)), None)
    where = process.choose_device(device, before.device if before else None)
    if where != process.choose_device(device):
        console.say(f"The run goes on as it was begun, on the {where}; --device cuda takes the GPU.")

    opened = open_source(store)
    chosen = PRESETS[preset or DEFAULT_PRESET.get(opened.kind, "faces")]
    model = replace(chosen, network=network or chosen.network).model(opened)
    sizes = read_latent(latent, model.latent) if latent else model.latent
    weights = {name: weight for name, weight in model.kl_weights.items() if name in sizes}
    model = replace(
        model,
        latent=sizes,
        kl_weights=read_kl_weights(kl_weights, sizes) if kl_weights else weights,
        hidden=read_hidden(hidden),
        method=(method or model.method) if gate else Ungated(),
        objective=_weighed(objective or model.objective, beta),
        likelihood=likelihood or model.likelihood,
    )
    config = TrainConfig(
        store=store,
        model=model,
        steps=steps,
        epochs=epochs or (None if steps else chosen.epochs),
        batch_size=batch_size,
        lr=chosen.lr if lr is None else lr,
        schedule=schedule or chosen.schedule,
        augment=augment or chosen.augment,
        warmup=warmup,
        keep=keep,
        checkpoint_every=None if keep == "last" else checkpoint_every,
        seed=seed or 0,
        precision=process.choose_precision(precision, where, before.precision if before else None),
    )
    if initial is not None:
        start = open_run(initial)
        start.refuse_network(model)
        config = replace(config, initial=str(initial), initial_weights=start.weights_digest())
    options = TrainOptions(out, device=where, resume=resume, overwrite=overwrite, checkpoint_every=checkpoint_every)
    at_hand = None if is_address(store) else opened
    if many:
        from gated_vae.pipelines.experiments.seeds import train_seeds

        with console.progress("train", "runs") as update:
            reports = train_seeds(config, many, options, opened, update)
        show_seeds(reports, at_hand, out, as_json=as_json)
        return
    with process.joined(where) as first:
        if not first:
            training.train(config, options, store=opened)
            return
        with console.progress("train", "steps") as update:
            report = training.train(config, options, update, opened)
    show_training(report, at_hand, as_json=as_json)


def _weighed(objective: Objective, beta: float | None) -> Objective:
    """The objective with --beta, where that was given."""
    from gated_vae.pipelines.presets import with_beta

    if beta is None:
        return objective
    if not hasattr(objective, "beta"):
        said = describe(OBJECTIVES, objective)
        raise typer.BadParameter(f"The objective {said} has no beta.", param_hint="'--beta'")
    try:
        return with_beta(objective, beta)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--beta'") from None
