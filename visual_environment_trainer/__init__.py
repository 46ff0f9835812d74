"""Trains one user's model of the visual environment from camera images."""
