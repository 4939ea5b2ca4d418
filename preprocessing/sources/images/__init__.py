"""A folder of any pictures, with labels from tables or folders."""
