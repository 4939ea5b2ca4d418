"""`pipe train`: a model from a store's pairs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gated_vae.pipelines.options import AsJson, Device, Overwrite, Precision, RateSchedule, Seed

if TYPE_CHECKING:
    from gated_vae.pipelines.training.trainer import TrainReport

Preset = Literal["faces", "faces-partners", "dsprites-vae", "dsprites-beta", "dsprites-info", "dsprites-dip2"]
Objective = Literal["vae", "beta", "info", "dip2"]
Network = Literal["fc", "conv"]
Context = Literal["input", "target", "partners", "composed"]


def train(
    store: Annotated[
        str, typer.Argument(help="The store's folder, or grpc://HOST:PORT of `pipe serve`.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    preset: Annotated[
        Preset | None, typer.Option(help="Defaults for the rest.", show_default="by kind of store")
    ] = None,
    objective: Annotated[
        Objective | None, typer.Option(help="What is added to the reconstruction.", show_default="the preset's")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL divergence.", show_default="the preset's")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="InfoVAE's alpha.", show_default="0")] = None,
    lambda_: Annotated[float | None, typer.Option("--lambda", help="InfoVAE's lambda.", show_default="500")] = None,
    lambda_od: Annotated[float | None, typer.Option(help="DIP-VAE-II, off the diagonal.", show_default="250")] = None,
    lambda_d: Annotated[float | None, typer.Option(help="DIP-VAE-II, on the diagonal.", show_default="250")] = None,
    latent: Annotated[
        str | None, typer.Option(help="NAME=SIZE,... for every partition.", show_default="the preset's")
    ] = None,
    kl_weights: Annotated[
        str | None,
        typer.Option(help="NAME=WEIGHT,...: times --beta, for some partitions.", show_default="the preset's"),
    ] = None,
    network: Annotated[
        Network | None, typer.Option(help="Fully connected or convolutional.", show_default="the preset's")
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="Hidden sizes, e.g. 512,512.", show_default="the network's")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Without the gate an ordinary VAE, target = input.")
    ] = True,
    gate_regulariser: Annotated[bool, typer.Option(help="Gate the regulariser's gradient too.")] = True,
    context: Annotated[
        Context | None,
        typer.Option(
            help="Where the other partitions' codes come from: see docs/methods.md.", show_default="the preset's"
        ),
    ] = None,
    open_every: Annotated[
        int, typer.Option(min=0, help="Every so-many-th round an ordinary one, target = input; 0 for none.")
    ] = 0,
    own_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With partners, composed: how often a code is the target's own at first; never in the second half.",
            show_default="the preset's",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs over all pairs.", show_default="the preset's")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs in a step, over all ranks.")] = 128,
    lr: Annotated[float | None, typer.Option(help="Adam's rate.", show_default="the preset's")] = None,
    schedule: Annotated[
        RateSchedule | None, typer.Option(help="How the rate goes on; cosine falls to 0.", show_default="the preset's")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the step first; meant for GPUs, on a processor it wins little.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine that share every batch.")] = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Asked for more steps than the run there, go on beyond its end (constant rate)."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train a gated VAE. Stopped or killed, the same command goes on to the same weights.

    Example: pipe train store --out run --epochs 30
    """
    from gated_vae.models.vae import GatedVAEConfig
    from gated_vae.pairing.stream.loader import is_address, open_source
    from gated_vae.pipelines import console
    from gated_vae.pipelines.training import trainer
    from gated_vae.pipelines.training.presets import choose_kl_weights, choose_latent, choose_preset
    from gated_vae.pipelines.training.processor import choose_device, choose_precision, why_not_compile
    from gated_vae.pipelines.training.ranks import on_ranks
    from gated_vae.pipelines.training.run import TrainConfig

    where = choose_device(device)
    opened = open_source(store)
    chosen = choose_preset(preset, opened)
    given: dict[str, Any] = {
        "name": objective,
        "beta": beta,
        "alpha": alpha,
        "lambda_": lambda_,
        "lambda_od": lambda_od,
        "lambda_d": lambda_d,
    }
    wanted = replace(chosen.objective_for(opened), **{key: value for key, value in given.items() if value is not None})
    if beta is not None and wanted.name == "info":
        raise typer.BadParameter("InfoVAE has none: its KL divergence weighs 1 - alpha.", param_hint="'--beta'")
    others: str = context or (chosen.context if gate else "input")
    if own_share is None:
        own_share = chosen.own_share if others == chosen.context else 0.0
    height, width = opened.manifest["image_shape"]
    sizes = choose_latent(latent, chosen, opened)
    model = GatedVAEConfig(
        latent=sizes,
        kl_weights=choose_kl_weights(kl_weights, sizes, chosen.kl_weights),
        image_shape=(height, width),
        network=network or chosen.network,
        widths=read_widths(widths),
        objective=wanted,
        gate=gate,
        gate_regulariser=gate_regulariser,
        context=others,
    )
    lacking = why_not_compile(where) if compile_ else ""
    if lacking:
        console.say(f"The step is not compiled. {lacking}")
    elif compile_:
        console.say("The first step compiles, for a minute or so.")
    config = TrainConfig(
        store=store if is_address(store) else str(Path(store)),
        model=model,
        steps=steps,
        epochs=epochs or (None if steps else chosen.epochs),
        batch_size=batch_size,
        lr=chosen.lr if lr is None else lr,
        schedule=schedule or chosen.schedule,
        seed=seed,
        precision=choose_precision(precision, where),
        compiled=compile_ and not lacking,
        open_every=open_every,
        own_share=own_share,
    )
    options = trainer.TrainOptions(out, device=device, resume=resume, overwrite=overwrite)

    def train_here() -> TrainReport:
        with console.progress("train") as update:
            return trainer.train(config, options, lambda done, total, losses: update(done, total, losses_note(losses)))

    report = on_ranks(partial(trainer.train, config, options), train_here, workers=workers, device=device)
    if report is not None:
        show_training(report, as_json=as_json)


def read_widths(text: str | None) -> tuple[int, ...]:
    """Read ``512,512``."""
    entries = [] if text is None else text.split(",")
    if not all(entry.strip().isdigit() and int(entry) for entry in entries):
        raise typer.BadParameter(f"--widths cannot be read: {text!r}; write whole numbers such as 512,512.")
    return tuple(map(int, entries))


def losses_note(losses: dict[str, float]) -> str:
    """Latest loss of each partition, for beside the bar."""
    return "  ".join(f"{name} {value:.1f}" for name, value in losses.items())


def show_training(report: TrainReport, *, as_json: bool) -> None:
    """Print what training did."""
    from gated_vae.pipelines import console

    terms = sorted({term for losses in report.losses.values() for term in losses})
    table = [[name, *(losses.get(term) for term in terms)] for name, losses in report.losses.items()]
    done = "nothing to do: it was finished" if report.steps_now == 0 else f"{report.steps_now:,} now"
    rows = {"run": report.out, "steps": f"{report.steps:,} ({done})", "losses": console.grid(["", *terms], table)}
    console.show(report, rows, as_json=as_json)
