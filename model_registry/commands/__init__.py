"""The registry on the command line: `model-trainer registry …`."""
