"""Factor grids as published: dSprites (from a file, or drawn), 3D Shapes, MPI3D."""
