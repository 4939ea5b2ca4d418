"""What OpenFace wrote: its folders, its CSVs, its pictures."""
