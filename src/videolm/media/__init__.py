"""From a path, URL, bytes or arrays to sampled frames; knows no model."""
