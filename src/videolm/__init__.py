"""Ask questions about videos and pictures with open video language models."""
