"""What the other packages know of this modality without importing its recipe."""

from shared.trainers import Cost, Trainer

TRAINER = Trainer(
    modality="speech",
    title="Words",
    package="speech_context_trainer",
    console_script="speech-train",
    image="speech-trainer",
    cost=Cost(start_seconds=5.0, seconds_per_sample=0.006, start_memory_bytes=560 << 20),
    accepts=frozenset(["text", "features"]),
)
