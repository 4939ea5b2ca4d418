"""Experiments: the paper's tables and curves, resumable run by run."""
