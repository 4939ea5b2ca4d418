"""Training methods, one file each: what a step does with pairs. They are registered in `gated_vae.models.registry`."""
