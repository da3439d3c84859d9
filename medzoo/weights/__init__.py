"""Parameters in files: our own, and those of other frameworks."""
