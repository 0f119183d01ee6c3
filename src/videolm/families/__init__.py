"""The families of models: the only place where a family has a name."""
