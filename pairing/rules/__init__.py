"""Who is paired with whom inside a group."""
