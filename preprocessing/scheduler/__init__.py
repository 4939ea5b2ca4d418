"""Tasks on the workers of a scheduler, on this machine or others."""
