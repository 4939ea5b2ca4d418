"""Training: configuration, trainer, runs, ranks."""
