"""What the other packages know of this modality without importing its recipe."""

from shared.trainers import Cost, Trainer

TRAINER = Trainer(
    modality="visual_environment",
    title="Places and things",
    package="visual_environment_trainer",
    console_script="visual-train",
    image="visual-trainer",
    cost=Cost(start_seconds=5.0, seconds_per_sample=0.011, start_memory_bytes=340 << 20),
    accepts=frozenset(["image", "video", "features"]),
    check_file="visual_environment_trainer.preprocessing.views:check_file",
    a3cp_name="image",
)
