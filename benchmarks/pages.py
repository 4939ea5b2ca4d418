"""Write what README and the pages of results quote: `python -m benchmarks.pages`.

All of it comes from the Parquet files of docs/results: the tables between the markers of README and of docs/results/NAME.md,
those of docs/results/appendix/NAME.md below the line that says so (or its first title), and the pictures
docs/figures/results_NAME.png. Prose is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report import insert, latest
from gated_vae.models.figures.sheet import DPI, FONT, INK, PALETTE, RULE, png
from gated_vae.pipelines.experiments import curves, faces, rivals, table1
from gated_vae.pipelines.experiments.tables import half_width, markdown_table
from gated_vae.preprocessing.files import write_bytes

ROOT = Path(__file__).parents[1]
BELOW = "<!-- from here on written by python -m benchmarks.pages -->"
METHODS = {
    "ungated": "un-gated",
    "ungated_beta": "un-gated, 4 times the KL weight",
    "gated": "gate",
    "exchange": "exchange gate",
    "partners": "partners",
}
YAW, SMILE, MOUTH, BROW = "pose_Ry", "AU12_r", "AU25_r", "AU01_r"
# The rows of faces.parquet that a page is about.
PEOPLE = {
    "faces": {"data": "celeba", "people": "trained on", "augment": "none"},
    "faces_unseen": {"data": "celeba", "people": "unseen", "augment": "mirror,shift,light"},
    "faces_simulated": {"data": "simulated", "people": "trained on", "augment": "none"},
    "faces_simulated_unseen": {"data": "simulated", "people": "unseen", "augment": "mirror,shift,light"},
}


@cache
def results(name: str) -> pd.DataFrame:
    """The figures of a Parquet file."""
    return pd.read_parquet(ROOT / "docs" / "results" / f"{name}.parquet")


def where(rows: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def told(values: pd.Series, digits: int = 2) -> str:
    """The mean, rounded; - where nothing is known."""
    mean = round(float(values.mean()), digits) + 0.0  # no negative zero
    return "-" if np.isnan(mean) else f"{mean:.{digits}f}"


def r2(page: str, method: str, factor: str, partition: str) -> pd.Series:
    """R2 of ridge regression on posterior samples, a number a seed."""
    cell = {"method": method, "factor": factor, "partition": partition, "regressor": "ridge", "codes": "sample"}
    return where(results("faces"), **PEOPLE[page], **cell)["r2"]


def readme() -> str:
    """Five figures, each with the page that says how it was measured."""
    seen = "faces_unseen"
    forest = where(results("table1"), regressor="random_forest", model="beta")
    ours = where(forest, method="composed_apart", steps=288_000)  # as long as the paper's
    paper = where(table1.paper(), table=1, regressor="random_forest", model="beta-VAE", gating="gated")
    theirs = {name: told(where(paper, quantity=name)["mean"]) for name in ("disentanglement", "uninformativeness")}
    csvs = latest(results("benchmarks").to_dict("records"))["OpenFace CSVs, one an image", "pandas, per file"]

    def face(factor: str, own: str, other: str) -> list[str]:
        cells = [told(r2(seen, "partners", factor, name)) for name in (own, other)]
        return [
            f"{cells[0]}; from `{other}` {cells[1]}",
            f"un-gated, full latent: {told(r2(seen, 'ungated', factor, 'full'))}",
        ]

    link = "[faces of unseen people](docs/results/faces_unseen.md)"
    lines = [
        ["R2 of the yaw from `pose`, CelebA", *face(YAW, "pose", "expression"), link],
        ["R2 of the smile (AU12) from `expression`, CelebA", *face(SMILE, "expression", "pose"), link],
    ]
    for name, how in (("disentanglement", "higher is better"), ("uninformativeness", "lower is better")):
        lines.append(
            [
                f"{name} of dSprites ({how})",
                told(ours[name]),
                f"the paper's gate: {theirs[name]}",
                "[Table 1](docs/results/table1.md)",
            ]
        )
    speed = f"{csvs['ratio']:.0f} times the speed"
    lines.append(["reading OpenFace's CSVs", speed, "pandas, file by file", "[benchmarks](docs/benchmarks.md)"])
    return markdown_table(["what", "gated-vae", "compared with", "measured in"], lines)


def face_table(page: str) -> str:
    """A line a method: what partitions tell of pose and expression, and how many swaps show both."""
    mine = where(results("faces"), **PEOPLE[page])
    lines = []
    for method, runs in mine.groupby("method", sort=False):
        cells = [
            told(r2(page, str(method), factor, partition))
            for factor, partition in (
                (YAW, "pose"),
                (YAW, "expression"),
                (YAW, "full"),
                (SMILE, "expression"),
                (SMILE, "pose"),
                (SMILE, "full"),
                (MOUTH, "expression"),
                (BROW, "expression"),
            )
        ]
        swaps = runs.drop_duplicates("seed")["swap_by_labels_both"]
        lines.append([METHODS[str(method)], str(runs["seed"].nunique()), *cells, told(swaps)])
    columns = ["yaw: from pose", "from expression", "full latent"]
    columns += ["AU12: from expression", "from pose", "full latent", "AU25: from expression", "AU01: from expression"]
    return markdown_table(["method", "seeds", *columns, "swaps that show both"], lines)


def table1_table() -> str:
    """The forest's scores of the beta-VAE by method and steps, below the paper's."""
    forest = where(results("table1"), regressor="random_forest", model="beta")
    wanted = [("ungated", 5000), ("gated", 5000), ("gated", 288_000), ("exchange_open", 5000), ("partners", 5000)]
    wanted += [("composed", 20_000), *(("composed_apart", steps) for steps in (5000, 20_000, 60_000, 288_000))]
    scores = ["disentanglement", "completeness", "uninformativeness"]
    paper = where(table1.paper(), table=1, regressor="random_forest", model="beta-VAE").set_index("quantity")
    lines = []
    for gating in ("ungated", "gated"):
        means = where(paper, gating=gating)["mean"]
        lines.append([f"`{gating}`, the paper", "288,000", "", *(f"{means[name]:.2f}" for name in scores), "-"])
    for method, steps in wanted:
        runs = where(forest, method=method, steps=steps)
        cells = [told(runs[name]) for name in (*scores, "rotation_circular_mean")]
        lines.append([f"`{method}`", f"{steps:,}", str(len(runs)), *cells])
    return markdown_table(["method", "steps", "seeds", *scores, "circular error of rotation"], lines)


OBJECTIVES = {
    "beta:beta=1": "beta-VAE, beta 1",
    "beta:beta=4": "beta-VAE, beta 4",
    "beta:beta=16": "beta-VAE, beta 16",
    "info": "InfoVAE",
    "dip2": "DIP-VAE-II",
}
STEPS = (24_000, 72_000, 144_000, 288_000)


def plain_gate_table() -> str:
    """A line an objective."""
    forest = where(results("plain_gate"), regressor="random_forest")
    paper = where(table1.paper(), table=1, regressor="random_forest", gating="gated").set_index(["model", "quantity"])
    lines = []
    for objective, name in OBJECTIVES.items():
        runs = {steps: where(forest, objective=objective, steps=steps) for steps in STEPS}
        last = runs[STEPS[-1]]
        cells = [told(rows["disentanglement"]) for rows in runs.values()]
        cells[-1] += f" ({last['disentanglement'].std():.2f})"
        cells += [told(last["uninformativeness"]), told(last["uninformativeness_shape"])]
        model = table1.MODELS.get(objective.partition(":")[0], "")
        stated = [f"{paper['mean'][model, key]:.2f}" for key in ("disentanglement", "uninformativeness")]
        published = "" if objective in ("beta:beta=1", "beta:beta=16") else ", ".join(stated)
        lines.append([name, str(len(last)), *cells, published])
    columns = [f"D at {STEPS[0]:,}", *(f"{steps:,}" for steps in STEPS[1:]), "U at 288,000", "shape at 288,000"]
    return markdown_table(["objective", "seeds", *columns, "the paper: D, U"], lines)


WORTH = {
    "entropy": "its entropy",
    "gain_gate": "earned in the gate",
    "gain_told": "told which is shared",
    "gain_in_turn": "told those above, too",
    "gain_rest_known": "told all the rest, too",
}
CHANGES = {
    "plain": "nothing",
    "wide": "hidden sizes 1,200",
    "fast": "learning rate 0.001, falling to 0",
    "open_regulariser": "regulariser not gated",
    "blocks": "500 steps of a partition in succession",
    "mixed": "all partitions in every batch",
    "no_statistics": "no batch statistics",
    "prior": "closed codes are draws of the prior",
    "told": "closed codes are 0",
    "exchange": "closed codes are the target's",
    "exchange_fast": "the same, 0.001 falling to 0",
}


def worth_table() -> str:
    """A line a partition: what it earns, and below which KL weight the first nat of it is worth its price."""
    lines = []
    for row in results("worth").to_dict("records"):
        critical = [f"{row[name]:.3g}" for name in ("critical_gate", "critical_told")]
        lines.append([row["partition"], *(f"{row[name]:.1f}" for name in WORTH), *critical])
    weights = ["critical KL weight, in the gate", "told which is shared"]
    return markdown_table(["partition", *WORTH.values(), *weights], lines)


def changes_table() -> str:
    """A line a change."""
    lines = []
    for variant, rows in results("plain_gate_changes").groupby("variant", sort=False):
        scores = [told(rows[name]) for name in ("disentanglement", "uninformativeness", "uninformativeness_shape")]
        tells = [told(rows[f"{what}_{name}"]) for what in ("kl", "own") for name in ("size", "shape", "rotation")]
        lines.append([CHANGES[str(variant)], str(len(rows)), *scores, *tells])
    tells = [f"{what} {name}" for what in ("nats of", "R2 of") for name in ("size", "shape", "rotation")]
    return markdown_table(["changed", "seeds", "D", "U", "shape", *tells], lines)


def plain_gate_tables() -> str:
    """What one change does, and what length does."""
    changes = f"## One thing changed: 24,000 steps, beta 4\n\n{changes_table()}"
    return f"{changes}\n## Length: nothing changed\n\n{plain_gate_table()}"


def curves_table() -> str:
    """The ends of every axis and the base between them."""
    rows = results("curves")
    columns = ["pose_own", "pose_leakage", "action_units_own", "action_units_leakage"]
    lines = []
    for axis, points in rows.groupby("axis", sort=False):
        for point in points.iloc[[0, -1]].to_dict("records"):
            lines.append([curves.TITLES[str(axis)], point["value"], *(f"{point[name]:.2f}" for name in columns)])
    return markdown_table(["varied", "value", *(curves.SCORES[name] for name in columns)], lines)


def likelihood_table() -> str:
    """A line a run."""
    factors = ["yaw", "AU12", "AU06", "AU25", "AU01", "AU04"]
    lines = []
    for run in results("likelihood").to_dict("records"):
        scale = "-" if np.isnan(run["scale"]) else f"{run['scale']:g}{' (learnt)' * run['scale_learnt']}"
        cells = [f"{run[name]:.2f} ({run[f'{name}_other']:.2f})" for name in factors]
        head = [
            f"`{run['likelihood']}`",
            f"{run['beta']:g}",
            str(run["seed"]),
            scale,
            f"{run['beta_as_bernoulli']:.3f}",
        ]
        lines.append([*head, f"{run['kl']:.0f}", *cells, f"{run['rmse']:.3f}"])
    names = ["likelihood", "beta", "seed", "scale", "beta in Bernoulli's terms", "KL, nats", *factors, "rmse"]
    return markdown_table(names, lines)


RIVALS = {
    "vae": "VAE",
    "gate": "gate",
    "prior_gate": "gate, prior draws",
    "exchange": "exchange gate",
    "partners": "partners",
    "composed": "composed",
    "gvae": "GVAE",
    "ml_vae": "ML-VAE",
    "ada_gvae": "Ada-GVAE",
    "ada_gvae_k": "Ada-GVAE, k = 1",
    "ada_ml_vae": "Ada-ML-VAE",
    "slow_vae": "SlowVAE",
}
WORLDS = {"shared": "one partition shared", "apart": "the same, x and y apart", "changed": "one factor changed"}
BOOSTED = "gradient_boosting_disentanglement"


def rival(data: str, world: str, method: str, metric: str) -> pd.Series:
    """A metric at the weight of the KL divergence that the loss chose, a number a seed."""
    rows = where(results("rivals"), data=data, world=world, method=method, objective="beta")
    return rivals.at_chosen(rows, metric) if len(rows) else rows["value"]


def rivals_table() -> str:
    """A line a method: what it is told, and its score in every world and on faces."""

    def cell(data: str, world: str, method: str, metric: str) -> str:
        values = rival(data, world, method, metric)
        return told(values) + (f" ± {half_width(values):.2f}" if len(values) > 1 else "")

    lines = []
    for method, name in RIVALS.items():
        what = where(results("rivals"), method=method).iloc[0]["told"]
        cells = [cell("dsprites", world, method, BOOSTED) for world in WORLDS]
        cells += [cell("celeba", "shared", method, f"{part}_score") for part in ("pose", "expression")]
        lines.append([name, what, *cells])
    columns = [f"dSprites, {world}: DCI" for world in WORLDS.values()]
    return markdown_table(["method", "told", *columns, "faces: pose, own - other", "expression, own - other"], lines)


def rivals_figure() -> Figure:
    """The worlds of dSprites, and faces."""
    grids = {
        title: [rival("dsprites", world, method, BOOSTED).tolist() for method in RIVALS]
        for world, title in WORLDS.items()
    }
    people = {
        f"{part}: own - other": [rival("celeba", "shared", method, f"{part}_score").tolist() for method in RIVALS]
        for part in ("pose", "expression")
    }
    names = [*RIVALS.values()]
    return dots(
        [Panel("dSprites: DCI, gradient boosting", names, grids), Panel("faces of unseen people: R2", names, people)]
    )


@dataclass(frozen=True)
class Panel:
    """Scores up to 1, by row (n of them) and series: a number for every run, none where there was none."""

    title: str
    rows: Sequence[str]
    series: Mapping[str, Sequence[Sequence[float]]]


def dots(panels: Sequence[Panel]) -> Figure:
    """Panels side by side: a line a row, a mark a series, small dots for single runs."""
    height = 1.2 + 0.34 * len(panels[0].rows)
    figure = Figure(figsize=(9.5, height), dpi=DPI, facecolor="white", layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False).flat, panels, strict=True):
        for (name, cells), colour, sign in zip(panel.series.items(), PALETTE, "os^D", strict=False):
            places = np.arange(len(cells))
            axes.plot(
                [np.mean(cell) if cell else np.nan for cell in cells],
                places,
                sign,
                color=colour,
                label=name,
                markersize=6,
            )
            single = np.repeat(places, [len(cell) for cell in cells])
            axes.plot(np.concatenate([*cells]), single, ".", color=colour, alpha=0.5, markersize=3)
        low = min((value for cells in panel.series.values() for cell in cells for value in cell), default=0)
        axes.set(xlim=(min(-0.05, low - 0.05), 1), ylim=(len(panel.rows) - 0.5, -0.5))
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.set_title(panel.title, fontsize=FONT + 1, color=INK, weight="bold")
        axes.tick_params(labelsize=FONT, colors=INK)
        axes.grid(axis="both", color=RULE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4, frameon=False, fontsize=FONT)
    return figure


def face_figure(page: str) -> Figure:
    """Yaw and smile, from their own partition, from the other and from the full latent."""
    methods = [str(name) for name in where(results("faces"), **PEOPLE[page])["method"].unique()]

    def panel(title: str, factor: str, own: str, other: str) -> Panel:
        series = {f"from {own}": own, f"from {other}": other, "full latent": "full"}
        cells = {name: [r2(page, method, factor, at).tolist() for method in methods] for name, at in series.items()}
        return Panel(title, [METHODS[name] for name in methods], cells)

    return dots(
        [panel("R2 of yaw", YAW, "pose", "expression"), panel("R2 of the smile (AU12)", SMILE, "expression", "pose")]
    )


def plain_gate_figure() -> Figure:
    """Disentanglement and uninformativeness after 24 and 288 thousand steps."""
    forest = where(results("plain_gate"), regressor="random_forest")

    def panel(score: str) -> Panel:
        cells = {
            f"{steps:,} steps": [where(forest, objective=name, steps=steps)[score].tolist() for name in OBJECTIVES]
            for steps in (STEPS[0], STEPS[-1])
        }
        return Panel(score, [*OBJECTIVES.values()], cells)

    return dots([panel("disentanglement"), panel("uninformativeness")])


def likelihood_figure() -> Figure:
    """What own partitions tell, by likelihood and beta."""
    runs = results("likelihood").groupby(["likelihood", "beta"], sort=False)
    rows = [f"{name}, beta {beta:g}" for name, beta in runs.groups]

    def panel(title: str, factors: Sequence[str]) -> Panel:
        return Panel(title, rows, {name: [group[name].tolist() for _, group in runs] for name in factors})

    return dots([panel("R2 of yaw and mouth", ["yaw", "AU12", "AU25"]), panel("R2 of brows", ["AU01", "AU04"])])


TABLES: dict[str, Callable[[], str]] = {
    "README.md": readme,
    **{f"docs/results/{page}.md": lambda page=page: face_table(page) for page in PEOPLE},  # type: ignore[misc]
    "docs/results/table1.md": table1_table,
    "docs/results/plain_gate.md": worth_table,
    "docs/results/curves.md": curves_table,
    "docs/results/likelihood.md": likelihood_table,
    "docs/results/rivals.md": rivals_table,
}
APPENDICES: dict[str, Callable[[], str]] = {
    **{page: lambda page=page: faces.tables(where(results("faces"), **PEOPLE[page])) for page in PEOPLE},  # type: ignore[misc]
    "table1": lambda: table1.tables(results("table1")),
    "curves": lambda: curves.tables(results("curves")),
    "rivals": lambda: rivals.tables(results("rivals")),
    "plain_gate": plain_gate_tables,
}
FIGURES: dict[str, Callable[[], Figure]] = {
    "faces": lambda: face_figure("faces"),
    "faces_unseen": lambda: face_figure("faces_unseen"),
    "faces_simulated_unseen": lambda: face_figure("faces_simulated_unseen"),
    "plain_gate": plain_gate_figure,
    "likelihood": likelihood_figure,
    "rivals": rivals_figure,
}


def texts() -> Iterator[tuple[Path, str]]:
    """Every text as it should be."""
    for name, table in TABLES.items():
        path = ROOT / name
        yield path, insert(path.read_text(), table())
    for name, tables in APPENDICES.items():
        path = ROOT / "docs" / "results" / "appendix" / f"{name}.md"
        head, _, _ = path.read_text().partition(f"\n{BELOW}" if BELOW in path.read_text() else "\n## ")
        yield path, f"{head.rstrip()}\n\n{BELOW}\n\n{tables()}"


def main() -> None:
    for path, text in texts():
        write_bytes(path, text.encode())
    for name, figure in FIGURES.items():
        write_bytes(ROOT / "docs" / "figures" / f"results_{name}.png", png(figure()))


if __name__ == "__main__":
    main()
