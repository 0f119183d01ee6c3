"""From frames and chat messages to model inputs; knows no weights."""
