"""From decoded media to feature vectors: array functions traced to ONNX, frozen encoders, and their caches."""
