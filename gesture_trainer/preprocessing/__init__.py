"""Landmark sequences and videos to tensors, tensors to features."""
