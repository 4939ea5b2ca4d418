"""Targets composed of the factors of several images: what a full factor grid allows beside pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pairing.batches import partition_record
from pairing.exact import FactorGrid
from preprocessing.errors import GatedVAEError
from preprocessing.store import Store

Ids = npt.NDArray[np.int64]

_REMEDY = "Use --context partners, which needs pairs alone."


class Composition:
    """Looks up the sample that has one sample's position, another's shape and so on.

    A code of each sample is then a partner for its target in one partition. Against partners drawn for every target apart, a
    step encodes one image for each one decoded instead of P.

    Parameters
    ----------
    store:
        A store of a full factor grid whose images are at hand.
    partitions:
        In the order of the rows of `sources` below. What none of them shares comes from a target's own row.

    Raises
    ------
    GatedVAEError
        When the store has no grid, a partition is missing or not exact, or two share a factor.
    """

    def __init__(self, store: Store, partitions: Sequence[str]) -> None:
        records = [partition_record(store, name) for name in partitions]
        if "factors" not in store.manifest or any(record["method"] != "exact" for record in records):
            why = "Targets are composed of known factors, of which there must be every combination (dSprites)."
            raise GatedVAEError(f"Nothing can be composed in {store.path}.", why, _REMEDY)
        shared = [factor for record in records for factor in record["factors"]]
        twice = next((factor for factor in shared if shared.count(factor) > 1), None)
        if twice:
            why = f"Two partitions share {twice}: from which to take it is not clear."
            raise GatedVAEError("Targets cannot be composed.", why, _REMEDY)
        grid = FactorGrid.of(store.manifest["factors"])
        self._images = store.images
        self._sizes = np.array(grid.sizes, np.int64)
        self._strides = grid.size // np.cumprod(self._sizes)
        self._columns = [[grid.names.index(factor) for factor in record["factors"]] for record in records]

    def target_ids(self, ids: Ids, sources: npt.NDArray[np.int64]) -> Ids:
        """Compose the targets of a batch.

        Parameters
        ----------
        ids:
            The batch's samples, int64 (B,).
        sources:
            For each partition and target the row of `ids` that gives the partition's factors, int64 (P, B).

        Returns
        -------
        The targets' ids, int64 (B,).
        """
        classes = ids[:, None] // self._strides % self._sizes
        composed = classes.copy()
        for columns, rows in zip(self._columns, sources, strict=True):
            composed[:, columns] = classes[rows][:, columns]
        targets: Ids = composed @ self._strides
        return targets

    def targets(self, ids: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        """Images of the targets, uint8 (B, H, W)."""
        found = self.target_ids(ids.numpy(), sources.numpy())
        return torch.from_numpy(np.asarray(self._images).take(found, axis=0))
