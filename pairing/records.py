"""How partitions were made, as the store's manifest records it: what is done, what may be replaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from preprocessing.errors import GatedVAEError
from preprocessing.store import Store

Record = dict[str, Any]


def already_made(store: Store, records: Mapping[str, Record], overwrite: bool) -> set[str]:
    """Tell which partitions were made just so; none are to count when they may be replaced.

    Parameters
    ----------
    records:
        Partition -> how it is to be made. Keys that only the manifest has (results) do not count.
    overwrite:
        Make all of them again, whatever is there.

    Raises
    ------
    GatedVAEError
        When one was made otherwise and may not be replaced.
    """
    made: set[str] = set()
    if overwrite:
        return made
    for name, record in records.items():
        found = store.partitions.get(name)
        differing = [key for key, value in record.items() if found is not None and found.get(key) != value]
        if found is not None and not differing:
            made.add(name)
        elif found is not None:
            why = f"Its {differing[0]} is {found.get(differing[0])}, this command's is {record[differing[0]]}."
            raise GatedVAEError(f"Partition {name} exists and differs.", why, "Use the same options, or --overwrite.")
    return made


def strike(store: Store, names: Collection[str]) -> Store:
    """Take partitions out of the record before their files change, so that no record describes a half-made table."""
    kept = {name: record for name, record in store.partitions.items() if name not in names}
    return store if len(kept) == len(store.partitions) else store.with_partitions(kept)
