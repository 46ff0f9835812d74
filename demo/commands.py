"""The command that this package adds to `model-trainer`; nothing is imported until it runs."""

from shared.trainers import Command

COMMANDS = {"demo": Command("demo.run:demo_command", "Train models for three fictional people.")}
