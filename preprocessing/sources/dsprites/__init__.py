"""The dSprites: from the official file, or drawn."""
