"""Transcripts to token ids and code points, those to features."""
