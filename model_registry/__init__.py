"""The file-system registry of published models. Knows nothing of training."""
