"""Trains one user's gesture model from landmark sequences and other motion features."""
