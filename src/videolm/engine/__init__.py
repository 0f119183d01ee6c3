"""Many requests answered by one model: batched continuously, nothing computed twice."""
