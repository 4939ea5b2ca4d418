"""A store under construction: what a command will make, the work it has done so far, and the moment it becomes a store.

The work lies in one hidden folder inside the store; nothing outside that folder changes before everything is ready, so a
command that fails or is killed leaves what was there before, and running it again goes on where it stopped.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import commit, read_json, write_json
from gated_vae.preprocessing.store import (
    REBUILD,
    centroids_path,
    groups_path,
    images_path,
    manifest_path,
    open_store,
    pairs_path,
    rejected_path,
    samples_path,
)

Plan = dict[str, Any]  # the keys of a manifest that are known beforehand; equal plans make equal stores


def is_finished(out: Path, plan: Plan) -> bool:
    """Whether `out` holds the store that `plan` describes.

    Raises
    ------
    GatedVAEError
        When it holds another store, finished or not, or something else.
    """
    if manifest_path(out).exists():
        _refuse_other(out, open_store(out).manifest, plan)
        return True
    if _plan_path(out).exists():
        _refuse_other(out, read_json(_plan_path(out), REBUILD), plan)
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        remedy = "Choose a new or empty folder, or have this one's store files replaced with --overwrite."
        raise GatedVAEError(f"{out} is not empty.", "It holds files, but no store.", remedy)
    return False


def open_work(out: Path, plan: Plan) -> Path:
    """Folder of the unfinished work on `plan`; work on anything else is thrown away."""
    if not _plan_path(out).exists() or read_json(_plan_path(out), REBUILD) != plan:
        discard_work(out)
        write_json(_plan_path(out), plan)
    return _work_path(out)


def discard_work(out: Path) -> None:
    """Remove the work folder; its plan first, so that a part of it is never taken for the whole."""
    _plan_path(out).unlink(missing_ok=True)
    if _work_path(out).exists():
        shutil.rmtree(_work_path(out))


def publish(out: Path, staged: Path) -> None:
    """Replace what is in `out` by the store staged inside it: old manifest away first, new one in last.

    Files are only renamed, which takes no space that could run out.
    """
    manifest_path(out).unlink(missing_ok=True)
    for folder in (groups_path(out, "").parents[1], pairs_path(out, "").parents[1], centroids_path(out, "").parent):
        if folder.exists():
            shutil.rmtree(folder)
    for path_in in (images_path, samples_path, rejected_path, manifest_path):
        commit(path_in(staged), path_in(out))


def _refuse_other(out: Path, found: dict[str, Any], plan: Plan) -> None:
    for key, wanted in _flat(plan).items():
        if _flat(found).get(key) != wanted:
            why = f"Its {key} is {_flat(found).get(key)}, this command's is {wanted}."
            remedy = "Choose another folder, or replace what is there with --overwrite."
            raise GatedVAEError(f"{out} holds another store.", why, remedy)


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    """Parameters beside the other keys, to be named one by one."""
    return {**plan, **plan.get("parameters", {}), "parameters": None}


def _work_path(out: Path) -> Path:
    return out / ".work"


def _plan_path(out: Path) -> Path:
    return _work_path(out) / "plan.json"
