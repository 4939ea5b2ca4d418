"""The verbs of `pipe`, one file each: options in, a library call, a report out."""
