"""The `pipe` command and what ties preprocessing, pairing and models together."""
