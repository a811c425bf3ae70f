"""One click command per file."""
