"""Training: from a matrix and labels to a model folder."""
