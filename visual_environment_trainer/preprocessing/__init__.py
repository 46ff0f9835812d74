"""Images to tensors, tensors to features."""
