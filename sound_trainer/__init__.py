"""Trains one user's sound model from short recordings."""
