"""The pairing service: a store's batches over Arrow Flight."""
