"""The command that this package adds to `model-trainer`; nothing is imported until it runs."""

from shared.trainers import Command

COMMANDS = {"pretrained": Command("build_tools.make:pretrained_command", "Make the pretrained networks.")}
