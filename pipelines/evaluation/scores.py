"""Scores of a run, and the one way they are told: as tables, to the console, to the report and to results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gated_vae.models.metrics.partition import FULL
from gated_vae.pipelines.training.run import Run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import fits

DCI = ("disentanglement", "completeness", "uninformativeness")
BOOSTED = "gradient_boosting"
PUBLISHED = (10_000, 5_000)  # images that disentanglement_lib has it fitted and judged on
# Scores of a grid of factors that are one number each, and how they are told.
OTHERS = {"mig": "MIG", "sap": "SAP", "factor_vae": "FactorVAE's score", "beta_vae": "beta-VAE's score"}
OTHERS |= {"modularity": "modularity", "irs": "IRS"}
SUMMARY = {"own": "own partition", "other": "best other", "full": "full latent", "score": "own - other"}
CHANCE = "chance"
ROUGH = 100  # images; of fewer that judge, R2 differs by tenths from that of others
ONE_PARTITION = "there is one partition only"
SWAP = {"pose": "A's pose", "expression": "B's expression", "both": "both"}
JUDGES_ARE = {"unseen": "in no pair and no training image", "trained on": "the network was trained on them, too"}
JUDGES = {"by_probe": "probe", "by_labels": "labels", "unswapped_by_labels": "labels, not swapped"}

Values = Mapping[str, Any]
Columns = Mapping[str, Mapping[str, float]]

# What metrics.json says of them, see `Scores`; a number that is none is null there.
_NUMBER = (int, float, type(None))
_NAMED = {str: _NUMBER}
_PER = {"completeness_per_factor": _NAMED, "uninformativeness_per_factor": _NAMED}
_DCI = {**dict.fromkeys(DCI, _NUMBER), **_PER, "disentanglement_per_code": [_NUMBER], "importance": [[_NUMBER]]}
_ANY = {"dci": {str: _DCI}, "constant": [str], "kl": [_NUMBER], "left_out": {str: str}}
_FACTORS = {"samples": int, "partition_r2": {str: _NAMED}, "partition_score": _NAMED, **dict.fromkeys(OTHERS, _NUMBER)}
_FACTORS |= {"rotation_circular": (_NAMED, type(None)), "boosted": [int]}
_SWAP = {"pairs": int, **dict.fromkeys(JUDGES, dict.fromkeys(SWAP, _NUMBER))}
_FACES = {"images": int, "held_out": int, "judged_by": (str, type(None)), "split_by": str, "people": str}
_FACES |= {"r2": {str: {str: {str: _NAMED}}}, "summary": {str: {str: {str: _NAMED}}}, "reconstruction": _NAMED}
_FACES |= {"swap": (_SWAP, type(None)), "accuracy": {str: _NAMED}, "circular": {str: _NAMED}}
_FORM = ({**_ANY, **_FACTORS}, {**_ANY, **_FACES})


@dataclass(frozen=True)
class Table:
    """Scores in words: column -> row -> value; a column may lack rows."""

    title: str
    columns: Columns

    @property
    def rows(self) -> list[str]:
        """The names of all rows."""
        return list(dict.fromkeys(row for column in self.columns.values() for row in column))

    def lines(self) -> list[list[str]]:
        """One line per row, as text: its name, then its values in the order of the columns."""
        return [[row, *(f"{c[row]:.3f}" if row in c else "" for c in self.columns.values())] for row in self.rows]


@dataclass(frozen=True)
class Scores:
    """What `pipe evaluate` found.

    Attributes
    ----------
    values:
        Plain values, as filed in ``metrics.json``. Of any store: `dci` (by regressor, from posterior means: scores, per code
        and per factor, `importance`), `constant` (factors left out) and `kl` (of every latent dimension, in nats). Of a grid of
        factors: `samples`, `boosted` (how many of them gradient boosting is fitted and judged on), `rotation_circular`,
        `partition_r2` (partition -> factor -> held-out R2), `partition_score` (by factor), and those of `OTHERS`. Of faces:
        `images`, `held_out`, `judged_by` (labels or truth), `split_by`, `people` (unseen, trained on, of another store),
        `r2` (probe -> codes -> partition -> factor -> held-out R2), `summary` (probe -> codes -> partition: see `summarise`),
        `accuracy` (partition -> class label -> balanced accuracy) and `circular` (partition -> angle -> error),
        `reconstruction` (root mean squared errors per pixel, pixels in 0 .. 1) and `swap` (see `swap_test`). `left_out` says what
        there is not, and why: without labels, `r2`, `summary` and `dci` are empty and `judged_by` is None.
    """

    values: Values

    @classmethod
    def of(cls, run: Run) -> Scores | None:
        """What ``metrics.json`` says of a run; None where it was not evaluated. `GatedVAEError` where these are no scores."""
        values = run.read_metrics().get("evaluate")
        if values is None:
            return None
        if not fits(values, _FORM):
            why = "What it says of the evaluation is not what `pipe evaluate` writes."
            raise GatedVAEError(f"{run.metrics} is damaged.", why, "Run `pipe evaluate` on the run again.")
        return cls(values)

    def facts(self) -> dict[str, str]:
        """What was judged, by what, and what could not be."""
        values = self.values
        left_out = {what: f"none: {why}" for what, why in values.get("left_out", {}).items()}
        if "r2" not in values:
            facts = {"judged by": f"a quarter of {values['samples']:,} random images"}
            facts |= _rough(values["samples"] // 4) | _boosting(values)
        else:
            judge = {"truth": "the truth", "labels": "their labels"}.get(values["judged_by"], "their pixels")
            judged = f"{values['held_out']:,} of {values['images']:,} images judge, by {judge}"
            facts = {"judged by": judged, "split": str(values["split_by"])}
            if values["judged_by"]:
                facts |= _rough(values["held_out"])
            facts["judges"] = JUDGES_ARE.get(values["people"], str(values["people"]))
        if values["constant"]:
            facts["left out"] = f"{', '.join(values['constant'])}: (nearly) the same in every image of one side"
        if values.get("swap", ()) is None and values["judged_by"]:
            facts["swap test"] = "none: it needs partitions pose and expression"
        return facts | left_out

    def tables(self) -> list[Table]:
        """Everything worth telling: factor by factor what ridge regression reads, as a forest reads much the same."""
        values = self.values
        dci = {_named(name): {key: score[key] for key in DCI} for name, score in values["dci"].items()}
        told = Table("DCI, from posterior means", dci)
        found = (*_face_tables(values), told) if "r2" in values else (told, *_factor_tables(values))
        return [table for table in found if table.rows]


def _rough(judges: int) -> dict[str, str]:
    """What is said where few images judge."""
    return {"mind": f"fewer than {ROUGH} images judge: scores are rough"} if judges < ROUGH else {}


def _factor_tables(values: Values) -> Iterator[Table]:
    errors = {_named(name): score["uninformativeness_per_factor"] for name, score in values["dci"].items()}
    yield Table("Uninformativeness of each factor, from posterior means", errors)
    others = {title: values[name] for name, title in OTHERS.items() if values[name] is not None}
    yield Table("Other scores", {"": others})
    if values["rotation_circular"]:
        yield Table("Circular uninformativeness of rotation", {"": values["rotation_circular"]})
    gaps = {"own - other": values["partition_score"]} if values["partition_score"] else {}
    r2 = _worded(values["partition_r2"])
    yield Table("R2 of each factor by partition (random forest, posterior means)", r2 | gaps)


def _boosting(values: Values) -> dict[str, str]:
    """What gradient boosting is fitted and judged on, and by which error."""
    if BOOSTED not in values["dci"]:
        return {}
    fitted, judged = values["boosted"]
    told = f"fits {fitted:,} and is judged on {judged:,} of them, as classes: its error is 1 - accuracy"
    more = f"; published scores are by {PUBLISHED[0]:,} and {PUBLISHED[1]:,}, and higher: --samples {sum(PUBLISHED)}"
    may_take_more = fitted < PUBLISHED[0] <= values["samples"]  # the store has no fewer
    return {"gradient boosting": told + more * may_take_more}


def _named(regressor: str) -> str:
    return regressor.replace("_", " ")


def _face_tables(values: Values) -> Iterator[Table]:
    for probe, by_codes in values["summary"].items():
        for codes, summary in by_codes.items():
            told = {key: title for key, title in SUMMARY.items() if all(key in found for found in summary.values())}
            columns = {title: {name: found[key] for name, found in summary.items()} for key, title in told.items()}
            yield Table(f"Mean R2 of a partition's factors ({probe.replace('_', ' ')}, posterior {codes}s)", columns)
    for codes, r2 in values["r2"].get("ridge", {}).items():
        yield Table(f"R2 of each factor by partition (ridge, posterior {codes}s)", _worded(r2))
    yield Table("Balanced accuracy of each class by partition (logistic regression)", _worded(values["accuracy"]))
    yield Table(
        "Circular error of each angle by partition (random forest; 1: no better than the mean)",
        _worded(values["circular"]),
    )
    if values["swap"] is not None:
        found = {f"nearer by {JUDGES[key]}": shares for key, shares in values["swap"].items() if key in JUDGES}
        columns = {title: {name: shares[key] for name, shares in found.items()} for key, title in SWAP.items()}
        yield Table(f"Swap test: shares of {values['swap']['pairs']:,} pairs", columns)
    errors = {name.replace("_", " "): error for name, error in values["reconstruction"].items()}
    yield Table("Reconstruction, per pixel in 0 .. 1", {"": errors})


def _worded(r2: Columns) -> dict[str, Mapping[str, float]]:
    return {"full latent" if name == FULL else name: found for name, found in r2.items()}


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    rows = [" | ".join(cells) for cells in (header, *lines)]
    return "\n".join([f"| {rows[0]} |", "|" + "---|" * len(header), *(f"| {row} |" for row in rows[1:]), ""])


def summarise(r2: Columns, owner: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Mean R2 of each partition's factors, negative R2 counted as 0.

    Parameters
    ----------
    r2:
        Partition, or the full latent -> factor -> held-out R2.
    owner:
        Factor -> the partition it belongs to. Those of partitions that do not exist are left out.

    Returns
    -------
    Partition -> `own` (from that partition), `other` (from the best other one, factor by factor), `full` (from the full
    latent) and `score` (own - other); without another partition only the first and the third.
    """
    floored = {name: {factor: max(0.0, value) for factor, value in found.items()} for name, found in r2.items()}
    summary = {}
    for name in dict.fromkeys(owner.values()):
        if name in floored:
            mine = [factor for factor, partition in owner.items() if partition == name]
            others = [found for other, found in floored.items() if other not in (name, FULL)]
            own = float(np.mean([floored[name][factor] for factor in mine]))
            full = float(np.mean([floored[FULL][factor] for factor in mine]))
            summary[name] = {"own": own, "full": full}
            if others:
                other = float(np.mean([max(found[factor] for found in others) for factor in mine]))
                summary[name] = {"own": own, "other": other, "full": full, "score": own - other}
    return summary


def r2_cells(values: Values) -> Iterator[dict[str, str | float]]:
    """One row per probe, kind of codes, partition and factor of faces: regressor, codes, partition, factor, r2."""
    for regressor, by_codes in values["r2"].items():
        for codes, by_partition in by_codes.items():
            for partition, by_factor in by_partition.items():
                for factor, r2 in by_factor.items():
                    yield {"partition": partition, "factor": factor, "regressor": regressor, "codes": codes, "r2": r2}
