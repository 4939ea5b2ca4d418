"""A folder of OpenFace's output for CelebA, or for any faces."""

CROPS = ("aligned", "landmarks", "centre")  # what of a picture is stored
FACES = ("confident", "largest")  # which of several faces in a picture is taken
