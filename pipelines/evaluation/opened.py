"""A run opened for use: one checkpoint read and one store opened, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gated_vae.models.vae import GatedVAE
from gated_vae.pipelines.evaluation.labels import random_ids
from gated_vae.pipelines.process import choose_device
from gated_vae.pipelines.training import run as runs
from gated_vae.preprocessing.errors import GatedVAEError, check_seed
from gated_vae.preprocessing.files import ending_of, parquet_writer
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import Store, images_path, open_store

BATCH = 1024
DEAD = 0.01  # nats: a dimension that tells less of an image is dead
DEAD_KL = 0.05  # nats below which pictures show a dimension as carrying next to nothing
SAMPLED = 2000  # images that decide which dimensions are active, and which image is typical

Floats = npt.NDArray[np.float32]


class Codes(NamedTuple):
    """Posteriors of n images: `mean` and `std`, float32 (n, M)."""

    mean: Floats
    std: Floats

    def sample(self, seed: int) -> Floats:
        """One draw from each posterior, (n, M)."""
        noise = np.random.default_rng(seed).standard_normal(self.mean.shape, dtype=np.float32)
        return self.mean + noise * self.std

    def kl(self) -> list[float]:
        """KL(q(z|x) || N(0, 1)) of every dimension, mean over the images, in nats: what is near 0 is dead."""
        kl = 0.5 * (self.mean**2 + self.std**2 - 1.0 - 2.0 * np.log(self.std))
        return [float(value) for value in kl.mean(0)]

    def typical(self) -> int:
        """The row that is nearest to the mean code."""
        return int(np.square(self.mean - self.mean.mean(0)).sum(1).argmin())


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A trained run; its model and its store are read when they are first asked for, and kept.

    Attributes
    ----------
    files:
        The run's folder and configuration.
    device:
        Where the model computes: ``cpu`` or ``cuda``.
    other:
        Another store of images of the same size to judge it on, instead of the one that it was trained on.
    """

    files: runs.Run
    device: str = "cpu"
    other: Store | None = None

    def writing_to(self, out: Path | None) -> OpenRun:
        """See `Run.writing_to`."""
        return replace(self, files=self.files.writing_to(out))

    @cached_property
    def model(self) -> GatedVAE:
        """The model of the newest checkpoint, in evaluation mode; `GatedVAEError` where there is none that is whole."""
        return self.files.model(self.device)

    @cached_property
    def tuned(self) -> OpenRun | None:
        """The run that `pipe finetune` has made of these weights in the run's folder, if it has."""
        path = self.files.path / runs.TUNED
        if not (path / runs.CHECKPOINTS).is_dir():
            return None
        tuned = open_run(path)
        return tuned if tuned.files.config.initial_weights == self.files.weights_digest() else None

    @cached_property
    def store(self) -> Store:
        """The images it is judged on; `GatedVAEError` where those it was trained on are gone or were replaced."""
        return self.other or self.files.store()

    @cached_property
    def sampled(self) -> tuple[npt.NDArray[np.int64], Codes]:
        """Random images of the store, `SAMPLED` or all there are: their ids, ascending, and codes."""
        ids = random_ids(SAMPLED, len(self.store), 0)
        return ids, self.encode(self.store.images, ids)

    @property
    def partitions(self) -> dict[str, slice]:
        """Partition -> its latent dimensions."""
        return self.model.partitions

    def dead(self, kl: Sequence[float]) -> list[str]:
        """Partitions all of whose dimensions are dead, by the KL of every dimension."""
        return [name for name, part in self.partitions.items() if max(kl[part]) < DEAD]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) in pixels of the images that it takes and makes, or (H, W, 3) in colour."""
        return self.files.config.model.image_shape

    @torch.no_grad()
    def encode(
        self, images: npt.NDArray[Any], ids: npt.NDArray[np.int64] | None = None, progress: Progress = ignore
    ) -> Codes:
        """The posterior's mean and std, float32 (n, M) each, of images of any source.

        Parameters
        ----------
        images:
            (n, H, W), or (n, H, W, 3) in colour, uint8 or floating point in 0 .. 1.
        ids:
            Which of them; all when None.

        Raises
        ------
        GatedVAEError
            When they are of another size than those it was trained on, or of other values; or codes would not be finite.
        """
        images = np.asarray(images)
        shape, refused = self.image_shape, f"{self.files.path} cannot encode the images."
        if images.shape[1:] != shape:
            why = f"It was trained on images of {shape}, these are {images.shape[1:]}."
            raise GatedVAEError(refused, why, "Make them of this size: `pipe preprocess --size`, `read_pictures`.")
        most = {"f": 1, "i": 255, "u": 255}.get(images.dtype.kind, -1)
        if images.dtype != np.uint8 and not ((images >= 0) & (images <= most)).all():
            raise GatedVAEError(refused, f"They are {images.dtype}.", "Give uint8, or floating point in 0 .. 1.")
        ids = np.arange(len(images)) if ids is None else ids
        means, stds = [], []
        for start in range(0, max(len(ids), 1), BATCH):
            batch = torch.from_numpy(images.take(ids[start : start + BATCH], axis=0))
            posterior = self.model.encode(batch.to(self.device))
            means.append(posterior.mean.cpu().numpy())
            stds.append((0.5 * posterior.logvar).exp().cpu().numpy())
            if not (np.isfinite(means[-1]) & (stds[-1] > 0) & np.isfinite(stds[-1])).all():
                remedy = "Its weights are none that training has settled on: train it again."
                raise GatedVAEError(refused, "Its codes would not be finite.", remedy)
            progress(min(start + BATCH, len(ids)), len(ids))
        return Codes(np.concatenate(means), np.concatenate(stds))

    @torch.no_grad()
    def decode(self, codes: npt.NDArray[Any]) -> Floats:
        """Mean images (n, H, W[, 3]), float32 in 0 .. 1, of codes (n, M); `GatedVAEError` where there are not M finite numbers."""
        codes, size = np.asarray(codes), self.files.config.model.latent_size
        if codes.shape[1:] != (size,) or not np.isfinite(codes).all():
            why = f"They are {codes.shape}; it takes finite (n, {size})."
            remedy = "Give means, samples or codes of your own."
            raise GatedVAEError(f"{self.files.path} cannot decode the codes.", why, remedy)
        images = []
        for start in range(0, max(len(codes), 1), BATCH):
            batch = torch.from_numpy(codes[start : start + BATCH].astype(np.float32, copy=False))
            images.append(torch.sigmoid(self.model.decode(batch.to(self.device)).float()).cpu().numpy())
        return np.concatenate(images)

    def sample(self, n: int, seed: int = 0) -> Floats:
        """Images (n, H, W[, 3]) of n codes drawn from the prior: a pure function of the seed."""
        size, seed = self.files.config.model.latent_size, check_seed(seed)
        return self.decode(np.random.default_rng(seed).standard_normal((n, size), dtype=np.float32))


def open_run(path: str | Path, store: str | Path | None = None, *, device: str = "cpu") -> OpenRun:
    """Open a trained run, to encode, decode and sample with it.

    Parameters
    ----------
    path:
        The run's folder.
    store:
        The folder of its store, if that has moved; or another store of images of the same size, to be judged on.
    device:
        Where the model computes: ``cpu`` or ``cuda``.

    Returns
    -------
    The run; its model and store are read when they are first asked for.

    Raises
    ------
    GatedVAEError
        When it is missing, damaged or of another schema version; or the other store's images are of another size.
    """
    device = choose_device(device)
    if store is None:
        return OpenRun(runs.open_run(Path(path)), device)
    given, files = open_store(store), runs.open_run(Path(path), Path(store))
    if given.digest_of(images_path) == files.store_digest:
        return OpenRun(files, device)
    shape = tuple(given.manifest["image_shape"])
    run = OpenRun(files, device, given)
    if shape != run.image_shape:
        why = f"Its images are {shape}, the run's are {run.image_shape}."
        raise GatedVAEError(f"{path} cannot be judged on {store}.", why, "Preprocess with the same --size.")
    return run


def dead_partitions(files: runs.Run, store: Store) -> list[str]:
    """Partitions all of whose dimensions are dead, by the mean KL of images that the run was trained on."""
    run = OpenRun(files)
    ids = np.arange(0, store.training, -(-store.training // BATCH))
    return run.dead(run.encode(store.images, ids).kl())


def _may_hold_codes(path: Path) -> bool:
    """Whether nothing is lost where codes are written to a file: there is none, it is empty, or it has a table of codes."""
    if not path.exists() or not path.stat().st_size:
        return True
    try:
        with path.open("rb") as file:
            first, *others = pq.read_schema(file)
    except (pa.ArrowException, ValueError):
        return False
    return first.name == "sample_id" and {field.type for field in others} == {pa.float32()}


@dataclass(frozen=True)
class EncodeReport:
    """Where the codes are, of how many samples, under which names."""

    path: Path
    samples: int
    columns: tuple[str, ...]


def encode_store(
    run: OpenRun,
    store: Store,
    out: Path,
    *,
    partition: str | None = None,
    row_group: int = 1 << 17,
    progress: Progress = ignore,
) -> EncodeReport:
    """Write the codes of every image of a store as Parquet: sample_id, NAME_i and NAME_i_std (float32).

    `row_group` samples are in memory at a time (a multiple of the encoder's batch, so that every one is full). Codes that are
    there are replaced.

    `GatedVAEError` when the run has no such partition, its model was made for images of another size, or the file holds something
    else.
    """
    ending_of(out, ("parquet",))
    if not _may_hold_codes(out):
        raise GatedVAEError(f"{out} is not replaced.", "It holds something else than codes.", "Choose another name.")
    if partition is not None and partition not in run.partitions:
        remedy = f"Choose from {', '.join(run.partitions)}, or leave --partition out."
        raise GatedVAEError(f"{run.files.path} has no partition {partition}.", "", remedy)
    kept = {name: dims for name, dims in run.partitions.items() if partition in (None, name)}
    names = [
        f"{name}_{i}{end}" for name, dims in kept.items() for end in ("", "_std") for i in range(dims.stop - dims.start)
    ]
    schema = pa.schema([("sample_id", pa.int64()), *((name, pa.float32()) for name in names)])
    with parquet_writer(out, schema, schema_version=runs.RUN_SCHEMA_VERSION) as writer:
        for start in range(0, len(store), row_group):
            ids = np.arange(start, min(start + row_group, len(store)))
            codes = run.encode(store.images, ids, lambda done, *_, start=start: progress(start + done, len(store)))
            columns = [column for dims in kept.values() for values in codes for column in values[:, dims].T]
            writer.write_table(pa.table([ids, *columns], schema))
    return EncodeReport(out, len(store), tuple(schema.names))
