"""Which line of a list or table means which picture: by their paths, as far as both go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

Parts = tuple[str, ...]  # folders and name of a path
Key = Callable[[str], str]


def match_paths(lines: Collection[Parts], images: Iterable[Parts], stem: Key) -> dict[Parts, Parts]:
    """The line of each image: the one of the same path as far as both go, by the name's stem if the suffix differs.

    What could be one image's or another's is neither's. Images without a line are left out.
    """
    distinct = dict.fromkeys(images)
    found = _pair(lines, distinct, lambda name: name)
    taken = set(found.values())
    by_stem = _pair(lines, [parts for parts in distinct if parts not in found], stem)
    return found | {parts: line for parts, line in by_stem.items() if line not in taken}


def _pair(lines: Iterable[Parts], images: Collection[Parts], key: Key) -> dict[Parts, Parts]:
    """The line of each image, by the key of the last part, where each is the only one of the other.

    Of several lines that fit, the longest is meant.
    """
    keyed: dict[Parts, list[Parts]] = {}  # by the whole path
    ends: dict[Parts, list[Parts]] = {}  # by what the paths of longer ones end in
    wanted = {(*image[:-1], key(image[-1])) for image in images}
    for line in lines:
        path = (*line[:-1], key(line[-1]))
        keyed.setdefault(path, []).append(line)
        for start in range(1, len(path)):
            if path[start:] in wanted:
                ends.setdefault(path[start:], []).append(line)
    found, takers = {}, Counter[Parts]()
    for image in images:
        path = (*image[:-1], key(image[-1]))
        fit = ends.get(path) or next((keyed[path[start:]] for start in range(len(path)) if path[start:] in keyed), [])
        longest = [line for line in fit if len(line) == max(map(len, fit))]
        takers.update(longest)
        if len(longest) == 1:
            found[image] = longest[0]
    return {image: line for image, line in found.items() if takers[line] == 1}
