"""Parameters as data: reading, renaming, checking and writing checkpoints."""
