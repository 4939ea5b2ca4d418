"""Simulated faces: a stand-in for CelebA and OpenFace's output on it that anybody may have."""
