"""How partitions were made, as the store's manifest records it: what is done, what may be replaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

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
        if found is None:
            continue
        differing = [key for key, value in record.items() if found.get(key) != value]
        if not differing:
            made.add(name)
        else:
            key = differing[0]
            why = f"Its {key} is {found.get(key)}, this command's is {record[key]}."
            if key == "stream":
                why = "An earlier version made it, which drew partners alike in every partition."
            raise GatedVAEError(f"Partition {name} exists and differs.", why, "Use the same options, or --overwrite.")
    return made


def strike(store: Store, names: Collection[str]) -> Store:
    """Take partitions out of the record before their files change, so that no record describes a half-made table."""
    kept = {name: record for name, record in store.partitions.items() if name not in names}
    return store if len(kept) == len(store.partitions) else store.with_partitions(kept)
