"""What is true of each picture, and what a tracker like OpenFace says about it.

All constants were measured on OpenFace 2.0.2's output for 7,475 CelebA pictures, rounded:

- Intensities. OpenFace's are a regression cut off at 0, and a normal variable cut off at 0 fits each unit: its share
  of zeros and its 99th percentile give mean and spread (`ZERO`, `TOP`). Four common causes (smiling, raised brows,
  frowning, the chin) with the weights of `CAUSES` reproduce the rank correlations to about 0.1.
- Label noise. 500 of the pictures were also run as one sequence, through OpenFace's other models. Where a unit fires in
  both, the spread of the regression residual over sqrt(2) is one run's error (`AU_NOISE`); for the pose it is the
  robust spread of the difference over sqrt(2) (`POSE_NOISE`).
- Confounding. The slopes of each unit on pitch, yaw, |yaw| and |pitch| in the same rows (`SLOPES`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.simulate.render.landmarks import AU_NAMES, FULL, Array

POSE_SD = np.array([0.155, 0.25, 0.045])  # pitch, yaw, roll in radians among plausible confident faces
POSE_LIMIT = np.array([0.75, 1.0, 0.4])
POSE_NOISE = np.array([0.050, 0.045, 0.013])
FAR_TAIL = 6  # degrees of freedom: real poses have longer tails than a normal

#            AU01 AU02 AU04 AU05 AU06 AU07 AU09 AU10 AU12 AU14 AU15 AU17 AU20 AU23 AU25 AU26 AU45
ZERO = np.array([0.43, 0.73, 0.58, 0.58, 0.40, 0.43, 0.52, 0.33, 0.28, 0.26, 0.62, 0.68, 0.48, 0.67, 0.41, 0.47, 0.72])
TOP = np.array([2.36, 1.60, 2.45, 2.26, 2.51, 3.22, 1.59, 2.90, 2.96, 2.67, 1.58, 1.69, 1.83, 0.94, 2.49, 2.35, 1.13])
AU_NOISE = np.array(
    [0.30, 0.19, 0.14, 0.17, 0.27, 0.30, 0.11, 0.29, 0.32, 0.27, 0.29, 0.37, 0.19, 0.12, 0.33, 0.27, 0.17]
)
PRESENT = np.array(
    [0.55, 0.52, 0.30, 0.43, 0.50, 0.50, 0.37, 0.51, 0.54, 0.66, 0.49, 0.16, 0.42, 0.18, 0.48, 0.38, 0.34]
)
AU28_PRESENT = 0.22  # AU28 has a presence but no intensity

CAUSES = {  # smiling, raised brows, frowning, the chin
    "AU01": (-0.10, 0.65, 0.15, 0.05), "AU02": (-0.20, 0.60, -0.10, 0.00), "AU04": (-0.05, 0.15, 0.60, 0.10),
    "AU05": (-0.30, 0.45, 0.00, 0.05), "AU06": (0.88, -0.05, 0.20, 0.05), "AU07": (0.50, -0.05, 0.45, 0.00),
    "AU09": (0.28, -0.05, 0.50, 0.10), "AU10": (0.72, 0.05, 0.20, 0.15), "AU12": (0.92, -0.05, -0.10, 0.00),
    "AU14": (0.62, -0.05, -0.10, 0.35), "AU15": (-0.25, 0.15, 0.20, 0.40), "AU17": (0.00, 0.10, 0.05, 0.65),
    "AU20": (0.05, 0.00, 0.10, 0.10), "AU23": (0.10, -0.05, 0.05, 0.50), "AU25": (0.80, -0.05, -0.05, -0.25),
    "AU26": (-0.05, 0.00, 0.05, 0.00), "AU45": (0.05, -0.05, 0.15, 0.10),
}  # fmt: skip
SLOPES = {  # AU units per radian of pitch, yaw, |yaw|, |pitch|
    "AU01": (0.0, 0.1, 0.2, 0.5), "AU02": (0.1, 0.0, -0.2, 0.2), "AU04": (0.1, 0.2, 0.3, 0.3), "AU05": (0.0, -0.2, 0.7, 0.6),
    "AU06": (-0.1, 0.0, -0.6, -0.5), "AU07": (-0.3, 0.0, -0.4, 0.0), "AU09": (-0.5, -0.2, 0.1, 0.1),
    "AU10": (-0.1, -0.2, 0.9, -0.8),
    "AU12": (0.3, -0.1, -0.9, -1.3), "AU14": (0.7, 0.2, -0.8, -0.6), "AU15": (-0.4, -0.2, 0.6, 0.5), "AU17": (-0.2, 0.0, 0.0, 0.1),
    "AU20": (-0.2, -0.2, -0.4, 0.1), "AU23": (0.0, 0.1, 0.0, 0.1), "AU25": (0.2, 0.1, -0.6, -0.8), "AU26": (-0.1, 0.4, 0.7, -0.1),
    "AU45": (-0.2, 0.0, 0.1, 0.2),
}  # fmt: skip

SPREAD = TOP / (ndtri(0.99) - ndtri(ZERO))  # of the uncut labels
MEAN = -ndtri(ZERO) * SPREAD
TRUE_SPREAD = np.sqrt(SPREAD**2 - AU_NOISE**2)  # so that truth and noise together spread as the real labels do
LOADINGS = np.array([CAUSES[name] for name in AU_NAMES])
SPECIFIC = np.sqrt(1 - (LOADINGS**2).sum(axis=1))
POSE_SLOPES = (
    np.array([SLOPES[name] for name in AU_NAMES]) / (1 - ZERO)[:, None]
)  # where cut off, a label does not move


@dataclass(frozen=True)
class Truth:
    """What is true of a face: pose (3,) in radians, and activity (17,), of which the part in 0..5 shows."""

    pose: Array
    activity: Array

    @property
    def intensities(self) -> Array:
        """(17,) in 0..5: what the picture shows."""
        return np.clip(self.activity, 0, FULL)


@dataclass(frozen=True)
class Labels:
    """What the tracker says: pose (3,), intensities (17,), presence (18,) with AU28 before AU45, confidence."""

    pose: Array
    intensities: Array
    presence: Array
    confidence: float


def draw_truth(rng: np.random.Generator) -> Truth:
    """Pose and expression of one picture, independent of each other."""
    pose = np.clip(rng.standard_t(FAR_TAIL, 3) * POSE_SD * np.sqrt((FAR_TAIL - 2) / FAR_TAIL), -POSE_LIMIT, POSE_LIMIT)
    normal = LOADINGS @ rng.normal(size=LOADINGS.shape[1]) + SPECIFIC * rng.normal(size=len(AU_NAMES))
    return Truth(pose, MEAN + TRUE_SPREAD * normal)


def label(truth: Truth, rng: np.random.Generator, options: FaceSimulation) -> Labels:
    """Labels of one face, noise and confounding scaled by the options; the same draws whatever these are."""
    label_noise, confounding = options.label_noise, options.confounding
    pose = truth.pose + options.pose_noise * POSE_NOISE * rng.normal(size=3)
    pitch, yaw, _ = truth.pose
    bias = POSE_SLOPES @ np.array([pitch, yaw, abs(yaw) - 0.2, abs(pitch) - 0.12])
    activity = truth.activity + label_noise * AU_NOISE * rng.normal(size=len(AU_NAMES)) + confounding * bias
    vote = activity + label_noise * 0.4 * SPREAD * rng.normal(size=len(AU_NAMES))  # presence is another classifier's
    present = vote > MEAN + ndtri(1 - PRESENT) * SPREAD * np.sqrt(1 + 0.16 * label_noise**2)
    presence = np.insert(present, -1, rng.random() < AU28_PRESENT).astype(float)
    confidence = float(rng.choice([0.983, 0.917, 0.883, 0.850], p=[0.83, 0.074, 0.09, 0.006]))
    return Labels(pose, np.clip(activity, 0, FULL), presence, confidence)


def lost(rng: np.random.Generator, confidence: float) -> Labels:
    """Labels of a face the tracker got wrong: an impossible pose, intensities that mean nothing."""
    pose = rng.uniform([-2, 1.2, -2], [3.1, 1.5, 2.2]) * np.array([1, rng.choice([-1, 1]), 1])
    intensities = np.clip(MEAN - 0.3 + SPREAD * rng.normal(size=len(AU_NAMES)), 0, FULL)
    return Labels(pose, intensities, (rng.random(len(AU_NAMES) + 1) < 0.4).astype(float), confidence)
