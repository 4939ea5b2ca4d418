"""Simulated faces: a stand-in for CelebA and OpenFace's output on it that anybody may have."""

from gated_vae.preprocessing.simulate.faces import simulate_faces, simulate_labels
from gated_vae.preprocessing.simulate.options import FaceReport, FaceSimulation

__all__ = ["FaceReport", "FaceSimulation", "simulate_faces", "simulate_labels"]
