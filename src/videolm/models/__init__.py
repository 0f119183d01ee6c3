"""From model inputs to logits; knows no family."""
