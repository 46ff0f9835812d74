"""From a fitted model to a bundle: export to ONNX, replay, files, promotion."""
