"""Labelled data as people and A3CP keep them: read, checked, written, brought in."""
