"""A run or a store to look at: in the browser, or as one file."""
