"""How dSprites' factors are cut into partitions: as the paper does, and as we do."""

from __future__ import annotations

# The paper's partitions.
SHARES: dict[str, tuple[str, ...]] = {
    "position": ("posX", "posY"),
    "rotation": ("orientation",),
    "shape": ("shape",),
    "size": ("scale",),
}
LATENT = dict.fromkeys(SHARES, 2)
# Ours, with as many dimensions as the paper's. Within one partition of x and y nothing says which way its two dimensions lie. What
# a turn is depends on the shape (a square looks the same after a quarter), so images are partners in it if their shapes agree,
# too; the shape is charged less in its own partition, so that it is told there.
APART: dict[str, tuple[str, ...]] = {"x": ("posX",), "y": ("posY",), "turn": ("orientation", "shape")}
LATENT_APART = {"x": 1, "y": 1, "shape": 2, "turn": 2, "size": 2}
KL_APART = {"shape": 0.5}
