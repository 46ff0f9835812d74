"""The commands that this package adds to `model-trainer`; nothing is imported until one of them runs."""

from shared.trainers import Command

COMMANDS = {
    "batch": Command("orchestrator.launch:main", "Train every user and modality with new or changed data."),
    "monitor": Command("orchestrator.monitor:main", "Follow a batch, or print its state once."),
    "upload": Command("orchestrator.registry_uploader:main", "Publish finished bundles in a registry."),
}
