"""Networks, gate, objectives and metrics: everything that knows tensors only."""

from models import metrics, objectives
from models.vae import GatedVAE, GatedVAEConfig

__all__ = ["GatedVAE", "GatedVAEConfig", "metrics", "objectives"]
