"""Tables of labels that users bring: read in any usual form, and brought from a tracker's names and units to ours."""
