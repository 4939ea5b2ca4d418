"""`pipe` with few steps and faces, for commands of the documentation: `python -m tests.docs.small WORDS`."""

from __future__ import annotations

import sys

SIZES = {
    "train": {"--steps": "6"},
    "finetune": {"--steps": "4"},
    "simulate": {"--n": "300"},
    "cluster": {"--pose": "8", "--expression": "8"},
}
ALWAYS = {"train", "finetune", "simulate"}  # others have the option only where the documentation gives it
LENGTHS = {"--steps", "--epochs"}


def small(words: list[str]) -> list[str]:
    """The same command with small numbers."""
    command, sizes = words[0], SIZES.get(words[0], {})
    kept, rest = [], iter(words)
    for word in rest:
        if word in sizes or (word in LENGTHS and LENGTHS & sizes.keys()):
            next(rest)
            kept += [] if command in ALWAYS else [word, sizes[word]]
        else:
            kept.append(word)
    return kept + [word for pair in sizes.items() for word in pair if command in ALWAYS]


if __name__ == "__main__":
    from gated_vae.pipelines.cli import main

    main(small(sys.argv[1:]))
