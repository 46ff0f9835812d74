"""Trains one user's model of speech context from transcripts."""
