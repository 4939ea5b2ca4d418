"""`pipe verify`: whether a store or a run is whole."""

from __future__ import annotations

from gated_vae.pipelines.options import AsJson, StoreOrRun


def verify(path: StoreOrRun, as_json: AsJson = False) -> None:
    """Check every file of a store or run.

    What is wrong is told, and what mends it.

    Exits with 1 when something is wrong. Nothing is changed.

    Example: pipe verify store
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.verify import verify as check
    from gated_vae.preprocessing.errors import GatedVAEError

    with console.progress("verify"):
        report = check(path)
    found = [[str(problem.path), problem.what, problem.remedy] for problem in report.problems]
    whole = console.grid(["file", "what is wrong", "what mends it"], found) if found else "whole"
    console.show(report, {"checked": path, **report.holds, "found": whole}, as_json=as_json)
    if report.problems:
        first = report.problems[0]
        what = f"{path} is damaged: {len(found)} {'thing is' if len(found) == 1 else 'things are'} wrong."
        raise GatedVAEError(what, f"{first.path}: {first.what}", first.remedy)
