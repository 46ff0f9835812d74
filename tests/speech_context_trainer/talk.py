"""Sentences of four labels in English, and of the same labels in German and Spanish, as sessions to train on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENGLISH = {
    "hungry": (
        "what is for lunch today",
        "would you like some bread and cheese",
        "the soup is ready come and eat",
        "are you hungry",
        "shall i make you a sandwich",
        "dinner will be on the table soon",
    ),
    "tired": (
        "it is late let us go to bed",
        "you look sleepy",
        "do you want to lie down and rest",
        "time for a nap",
        "did you sleep well last night",
        "good night sweet dreams",
    ),
    "outside": (
        "let us go for a walk in the park",
        "the sun is shining shall we go out",
        "put on your jacket we are leaving the house",
        "do you want to play in the garden",
        "we could take a stroll to the lake",
        "fresh air would do us good",
    ),
    "pain": (
        "does your head hurt",
        "show me where the pain is",
        "i will call the doctor",
        "do you need your medicine",
        "is your stomach aching again",
        "the nurse will look at your knee",
    ),
}
OTHER_LANGUAGES = {
    "hungry": (
        "was gibt es heute zum mittagessen",
        "möchtest du ein stück brot essen",
        "¿tienes hambre? la sopa está lista",
    ),
    "tired": (
        "du siehst müde aus, geh ins bett",
        "es hora de dormir, buenas noches",
        "möchtest du dich hinlegen und ausruhen",
    ),
    "outside": (
        "lass uns im park spazieren gehen",
        "hace sol, vamos a dar un paseo por el jardín",
        "wir gehen nach draußen an die frische luft",
    ),
    "pain": (
        "tut dir der kopf weh",
        "voy a llamar al médico, ¿dónde te duele?",
        "brauchst du deine medizin gegen die schmerzen",
    ),
}


def write_sessions(
    root: Path,
    said: Mapping[str, Sequence[str]],
    sessions: int = 3,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write each label's texts, dealt over sessions, for the user `ana`; `more` are further fields by text."""
    for session in range(sessions):
        folder = root / "users" / "ana" / "sessions" / f"s{session}"
        folder.mkdir(parents=True)
        (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": folder.name}))
        lines = [
            {
                "record_id": f"{label}-{place:02d}",
                "user_id": "ana",
                "session_id": folder.name,
                "timestamp": f"2026-03-0{session + 1}T10:00:00.000Z",
                "modality": "speech",
                "label": label,
                "consent_given": True,
                "transcript": text,
                **(more or {}).get(text, {}),
            }
            for label, texts in said.items()
            for place, text in enumerate(texts)
            if place % sessions == session
        ]
        (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
