"""Who is alike: groups of samples."""
