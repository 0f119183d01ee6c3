"""Scoring anything that answers questions about media."""
