"""In which order pairs come, from a folder or a service."""
