"""Recordings to waves, waves to features."""
