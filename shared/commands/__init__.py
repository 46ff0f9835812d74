"""The command line: `model-trainer` and what every trainer's command shares."""
