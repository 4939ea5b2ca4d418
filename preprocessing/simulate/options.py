"""What to simulate, and what was simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gated_vae.preprocessing.errors import GatedVAEError, check_seed


@dataclass(frozen=True)
class FaceSimulation:
    """What to simulate. The shares and scales default to what OpenFace does on CelebA.

    Where `people` is given, the first images of a larger simulation are those of a smaller one. Pictures are the same whatever
    noise and confounding are.
    """

    n: int  # images, named 000001.jpg and up
    seed: int = 0
    people: int | None = None  # identities; about 20 images each when None, as in CelebA
    pose_noise: float = 1.0  # scale of the errors of the pose; 0 gives the truth, rounded as OpenFace rounds
    label_noise: float = 1.0  # the same of the action units
    confounding: float = 0.0  # how far labels of action units, never the truth, depend on the pose: 1 is as in OpenFace
    not_found: float = 0.0023  # share of images without a face
    two_faces: float = 0.0035  # of those with two
    low_confidence: float = 0.010  # of those with one below 0.8
    impossible: float = 0.0036  # of those with a confident one in an impossible pose

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.n < 1 or self.identities < 1:
            raise GatedVAEError("Nothing to simulate.", "n and people must be 1 or more.")
        shares = (self.not_found, self.two_faces, self.low_confidence, self.impossible)
        if min(shares) < 0 or self.two_faces > 1 or self.not_found + self.low_confidence + self.impossible > 1:
            raise GatedVAEError(
                "The shares of images do not add up.", f"{shares} must lie in 0..1 and sum to 1 at most."
            )
        if not all(0 <= scale < np.inf for scale in (self.pose_noise, self.label_noise, self.confounding)):
            raise GatedVAEError("Noise and confounding must be 0 or more.")

    @property
    def identities(self) -> int:
        """Number of people."""
        return max(1, round(self.n / 20)) if self.people is None else self.people


@dataclass(frozen=True)
class FaceReport:
    """What a folder of simulated faces holds; `images` = `found` + `not_found`."""

    images: int
    found: int
    not_found: int
    two_faces: int
    low_confidence: int
    impossible: int
    people: int
    already_done: bool  # True when it was there already and nothing was written
