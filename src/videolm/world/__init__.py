"""Moving shapes: a procedurally drawn world with true answers; knows no model."""
