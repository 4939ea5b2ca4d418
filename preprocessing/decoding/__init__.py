"""A picture file's bytes into pixels, or into words that say why not."""
