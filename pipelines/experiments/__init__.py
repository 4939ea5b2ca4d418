"""Experiments, each a set of runs that are compared: what is repeated by `pipe reproduce NAME`, resumable run by run."""

from __future__ import annotations

# Name -> ``module:class`` in this folder; a new experiment is a file and a line here.
EXPERIMENTS = {"table1": "table1:Table1", "faces": "faces:Faces", "curves": "curves:Curves", "rivals": "rivals:Rivals"}
