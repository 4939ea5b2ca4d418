"""The report of a run, in one HTML file that opens offline: what it is, what was measured, how it looks; and its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gated_vae import __version__
from gated_vae.models.registry import LIKELIHOODS, METHODS, OBJECTIVES, describe
from gated_vae.pairing.partition import pairs_made
from gated_vae.pipelines.evaluation import html
from gated_vae.pipelines.evaluation.opened import DEAD, OpenRun
from gated_vae.pipelines.evaluation.pictures import draw_pairs, draw_reconstructions, draw_swaps, draw_traversals
from gated_vae.pipelines.evaluation.scores import Scores, markdown_table
from gated_vae.preprocessing.files import ending_of, is_there, read_own, read_picture, write_bytes

Values = Mapping[str, Any]
CARD, OWN_WORDS = (
    "MODEL_CARD.md",
    "<!-- What you write below this line is kept when `pipe report` writes the card anew. -->",
)
_CARD_BYTES = 1 << 24
_IN = "in"
_TOLD = {
    "nothing": "nothing",
    "count": "in how many factors the two images differ",
    "shared": "which partition's factors the two images share",
}
_FACES = (
    "Unless they are simulated, these are real people: say below where they come from, whether they agreed, and which terms hold."
    " Do not use the model to identify people, or to judge what they feel or are: pose and action units say how a face looks."
)
_UNKNOWN = "The store does not say whether people are in the images: say so below, and whether they agreed."


@dataclass(frozen=True)
class Report:
    """Where the report is, how large it is in bytes, whether it holds scores, and where the model card is, if beside it."""

    path: Path
    size: int
    has_scores: bool
    card: Path | None


def write_report(run: OpenRun, path: Path | None = None) -> Report:
    """Draw a run's pictures and write them with its scores to ``report.html`` where its results go, or to `path` alone.

    Without `path`, and of the store that the run was trained on, there is a ``MODEL_CARD.md`` beside it. What a person has added
    to it below `OWN_WORDS` stays.

    `GatedVAEError` when the run has no checkpoint, or its store is gone or was replaced.
    """
    page_path = path or run.files.written / "report.html"
    ending_of(page_path, ("html",))
    metrics, scores = run.files.read_metrics(), Scores.of(run.files)
    hinton = run.files.figures / "hinton_random_forest.png" if scores and scores.values["dci"] else None
    with TemporaryDirectory() as scratch:
        drawn = run if path is None else run.writing_to(Path(scratch))
        facts = _facts(drawn, metrics.get("train", {}))
        sections = [html.facts(facts), _scores(scores), *_pictures(drawn, hinton)]
    name = run.files.path.resolve().name
    page = html.page(f"Run {name}", sections)
    write_bytes(page_path, page)
    card = None if path or run.other else run.files.written / CARD
    if card:
        there = (read_own(card, _CARD_BYTES) or b"") if is_there(card) else b""
        before, mark, own = there.partition(OWN_WORDS.encode())
        text = f"{_card(name, run, facts, scores)}\n{OWN_WORDS}\n"
        write_bytes(card, text.encode() + (own if mark else before).lstrip())
    return Report(page_path, len(page), scores is not None, card)


def _facts(run: OpenRun, trained: Values) -> dict[str, object]:
    config, store = run.files.config, run.store
    model, kept = config.model, run.files.kept()
    length = f"{config.steps:,} steps" if config.steps else f"{config.epochs:,} epochs"
    done = "" if trained else ", not finished"
    rows: dict[str, object] = {
        "store": f"{store.kind}, {len(store):,} images of {'x'.join(map(str, model.image_shape))} pixels",
        _IN: store.path,
        "pairs": "; ".join(f"{name}: {pairs_made(made)}" for name, made in _trained_on(run).items()),
        "latent": ", ".join(f"{name} {size}" for name, size in model.latent.items()),
        "method": describe(METHODS, model.method),
        "objective": f"{describe(OBJECTIVES, model.objective)}, {describe(LIKELIHOODS, model.likelihood)} likelihood,"
        f" {model.network} network",
        "training": f"{length}, batch {config.batch_size}, learning rate {config.lr:g} {config.schedule},"
        f" {config.precision}, seed {config.seed}",
        "weights": f"step {kept.step:,}{done}",
    }
    for name, losses in trained.get("losses", {}).items():
        rows[f"last losses, {name}"] = ", ".join(f"{term} {value:.1f}" for term, value in losses.items()) + " nats"
    if valid := trained.get("valid"):
        rows["validation loss"] = (
            f"{valid['history'][str(valid['best'])]:.1f} nats at its lowest, step {valid['best']:,}"
        )
    return rows


def _card(name: str, run: OpenRun, facts: Values, scores: Scores | None) -> str:
    """The model card, in Markdown (Mitchell et al. 2019, Model Cards for Model Reporting)."""
    model, store = run.files.config.model, run.store
    height, width, *colours = model.image_shape
    rejected = store.manifest["rejected"]
    rows = {key: value for key, value in facts.items() if key != _IN}  # which is nobody else's
    rows |= {"told of pairs": _TOLD[model.method.told], "card by": f"gated-vae {__version__}"}
    rows |= {
        "source": f"{store.kind}, {store.manifest['source_digest']}; {rejected:,} of {store.manifest['seen']:,} rejected"
    }
    errors = "" if "factors" in store.manifest else " Labels of a tracker bring its errors into training and scores."
    parts = [
        f"# Model card: {_plain(name)}",
        f"A gated variational autoencoder. It encodes images of {height} x {width} pixels, {'in colour' if colours else 'grey'},"
        f" into {model.latent_size} numbers, a group of them for each of {', '.join(model.latent)}.",
        "## How it was trained",
        _rows(rows),
        "## How it was judged",
        *_judged(run, scores),
        "## Intended use and limits",
        "It is meant for research: to encode, compare and vary images such as those it was trained on, cut in the same way."
        f" Of others its codes mean little.{errors}",
    ]
    if store.kind == "celeba":
        count = store.sample_columns(["identity"])["identity"].nunique() if "identity" in store.schema.names else None
        people = f"The images are faces{f' of {count:,} people' if count else ''}. {_FACES}"
    else:
        people = "None: a grid of drawn or posed things." if "factors" in store.manifest else _UNKNOWN
    return "\n\n".join([*parts, "## People in the data", people, ""])


def _judged(run: OpenRun, scores: Scores | None) -> list[str]:
    if scores is None:
        return ["It was not: `pipe evaluate` does it, then `pipe report` writes this anew."]
    kl = scores.values["kl"]
    dead = run.dead(kl) if kl else []
    told = [f"No dimension of {', '.join(dead)} tells {DEAD} nats of an image: it is dead."] if dead else []
    for table in scores.tables()[:1]:
        told += [f"{table.title}:", _table(["", *table.columns], table.lines())]
    return [_rows(scores.facts()), *told, "All scores and pictures: `report.html`."]


def _rows(rows: Values) -> str:
    return _table(["", ""], [*rows.items()])


def _table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    first, *others = ([_plain(cell) for cell in line] for line in (header, *lines))
    return markdown_table(first, others).rstrip()


def _plain(value: object) -> str:
    """Text that Markdown takes for no markup of a table's or a page's."""
    return escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")


def _scores(scores: Scores | None) -> str:
    if scores is None:
        return html.section("Scores", html.note("None yet: run `pipe evaluate` on the run, then `pipe report` again."))
    return html.section("Scores", html.facts(scores.facts()), *map(html.table, scores.tables()))


def _trained_on(run: OpenRun) -> dict[str, dict[str, Any]]:
    """How the store says that the pairs of the run's partitions were made, by partition."""
    return {name: made for name, made in run.store.partitions.items() if name in run.partitions}


def _pictures(run: OpenRun, hinton: Path | None) -> list[str]:
    """What there is to see, each with a word on it."""
    traversals = draw_traversals(run)
    swaps = draw_swaps(run)
    trained = _trained_on(run)
    pairs = draw_pairs(run.store, run.files.figures / "pairs.png", [*trained]) if trained else None
    image = f"image {traversals.sample}"
    shown = {
        "Traversals": f"Each row moves one latent dimension around {image}, the busiest first; KL divergence beside it.",
        "Swaps": "Rows decide the first partition, columns the second.",
        "Pairs": "Images beside what each partition paired them with: this is all the supervision there is.",
        "Reconstructions": "Decoded from posterior means; a gated model aims at the target.",
        "Importance": "How much each latent dimension matters to each factor (random forest).",
    }
    paths = [traversals.path, swaps, pairs, draw_reconstructions(run), hinton]
    remedy = f"Remove it, then run `pipe evaluate {run.files.path}` again."
    return [
        html.section(title, html.note(text), html.picture(read_picture(path, remedy), title))
        for (title, text), path in zip(shown.items(), paths, strict=True)
        if path is not None and path.exists()
    ]
