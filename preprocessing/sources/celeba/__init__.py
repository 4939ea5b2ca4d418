"""A folder of OpenFace's output for CelebA, or for any faces."""
