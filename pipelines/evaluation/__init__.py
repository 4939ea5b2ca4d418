"""Evaluation: codes, probes, pictures, reports."""
