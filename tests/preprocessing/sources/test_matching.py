"""Which line means which picture, against every line compared with every picture."""

from __future__ import annotations

import numpy as np

from gated_vae.preprocessing.sources.images.survey import stem
from gated_vae.preprocessing.sources.matching import Parts, match_paths


def same_end(line: Parts, image: Parts, *, by_stem: bool) -> bool:
    """Whether two paths are one as far as both go."""
    first, second = ((*path[:-1], stem(path[-1])) if by_stem else path for path in (line, image))
    length = min(len(first), len(second))
    return first[-length:] == second[-length:]


def compared(lines: list[Parts], images: list[Parts], *, by_stem: bool) -> dict[Parts, Parts]:
    longest = {}
    for image in images:
        fit = [line for line in lines if same_end(line, image, by_stem=by_stem)]
        longest[image] = [line for line in fit if len(line) == max(map(len, fit))]
    takers = [line for fit in longest.values() for line in fit]
    return {image: fit[0] for image, fit in longest.items() if len(fit) == 1 and takers.count(fit[0]) == 1}


def test_random_paths() -> None:
    generator = np.random.default_rng(0)

    def paths(count: int) -> list[Parts]:
        names = [f"{number}{suffix}" for number in range(4) for suffix in (".jpg", ".png", "")]
        found = [
            (*generator.choice(["a", "b"], generator.integers(0, 3)), generator.choice(names)) for _ in range(count)
        ]
        return list(dict.fromkeys(tuple(map(str, path)) for path in found))

    matched = 0
    for _ in range(300):
        lines, images = paths(6), paths(6)
        expected = compared(lines, images, by_stem=False)
        taken = set(expected.values())
        rest = compared(lines, [image for image in images if image not in expected], by_stem=True)
        expected |= {image: line for image, line in rest.items() if line not in taken}
        assert match_paths(lines, images, stem) == expected
        matched += len(expected)
    assert matched > 300
