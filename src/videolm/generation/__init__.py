"""From logits to text: sampling, stopping and streaming."""
