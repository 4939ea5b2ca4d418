"""What to simulate, and what was simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gated_vae.preprocessing.errors import GatedVAEError, check_seed


@dataclass(frozen=True)
class FaceSimulation:
    """What to simulate. The shares and scales default to what OpenFace does on CelebA.

    Attributes
    ----------
    n:
        Images, named 000001.jpg and up.
    people:
        Identities; about 20 images each when None, as in CelebA. Where it is given, the first images of a larger
        simulation are those of a smaller one.
    pose_noise, label_noise:
        Scale of the errors of the pose and of the action units; 0 gives the truth (rounded as OpenFace rounds).
    confounding:
        How far the labels of the action units depend on the pose: 0 not at all, 1 as strongly as in OpenFace. What is
        true never does. Pictures are the same whatever these three are.
    not_found, two_faces, low_confidence, impossible:
        Shares of images without a face, with two, with one below 0.8, and with a confident one in an impossible pose.
    """

    n: int
    seed: int = 0
    people: int | None = None
    pose_noise: float = 1.0
    label_noise: float = 1.0
    confounding: float = 0.0
    not_found: float = 0.0023
    two_faces: float = 0.0035
    low_confidence: float = 0.010
    impossible: float = 0.0036

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
