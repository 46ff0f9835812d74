"""What the other packages know of this modality without importing its recipe."""

from shared.trainers import Command, Cost, Trainer

TRAINER = Trainer(
    modality="gesture",
    title="Gestures",
    package="gesture_trainer",
    console_script="gesture-train",
    image="gesture-trainer",
    cost=Cost(start_seconds=2.6, seconds_per_sample=0.0015),
    accepts=frozenset(["image", "video", "features"]),
    extracts=True,
    check_file="gesture_trainer.preprocessing.clips:check_file",
    commands={
        "extract": Command(
            "gesture_trainer.commands:extract_command",
            "Find the landmarks of clips and images, and write feature files.",
        )
    },
)
