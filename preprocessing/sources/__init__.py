"""Raw sources that a store can be made from, one folder each."""
