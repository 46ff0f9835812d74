"""What the other packages know of this modality without importing its recipe."""

from shared.trainers import Cost, Trainer

TRAINER = Trainer(
    modality="sound",
    title="Sounds",
    package="sound_trainer",
    console_script="sound-train",
    image="sound-trainer",
    cost=Cost(start_seconds=6.0, seconds_per_sample=0.008, start_memory_bytes=430 << 20),
    accepts=frozenset(["audio", "video", "features"]),  # a video's sound
    check_file="sound_trainer.preprocessing.decode:check_file",
    a3cp_name="audio",
)
