"""What others say around the person, as a speech recogniser transcribes it; wording differs between sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.people import Person, SessionConditions

# The first list of a topic occurs in every session, the others in one session each.
_TEMPLATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "meal": (
        (
            "are you hungry {name}",
            "do you want some more {food}",
            "what would you like to eat",
            "is it too hot for you",
        ),
        ("lunch is ready come and sit down", "would you like {food} or {food}", "shall i cut the {food} for you"),
        ("i made {food} today do you like it", "here is your spoon try the {food}", "have another sip of {drink}"),
        (
            "breakfast is on the table",
            "you have not finished your {food}",
            "can i pour you some {drink}",
            "it tastes good does it not",
        ),
    ),
    "care": (
        ("time to brush your teeth", "let us get you dressed", "shall we wash your {body}", "is the water warm enough"),
        ("your {clothes} is in the drawer", "i will help you with the {clothes}", "do you need the toilet now"),
        (
            "lift your {body} please so i can pull up the {clothes}",
            "let me comb your hair",
            "we are nearly done with the shower",
        ),
        ("put your arm through here", "which {clothes} do you want to wear", "hold still while i dry your {body}"),
    ),
    "play": (
        ("whose turn is it now", "do you want to play with the {toy}", "that was fun {name}", "shall we do it again"),
        ("throw the {toy} to me", "let us build a tower", "you won this round well done"),
        ("can you find the red {toy}", "roll the dice {name}", "which song should we sing next"),
        (
            "let us draw a picture of {person}",
            "i hide and you look for me",
            "put the {toy} back in the box when we finish",
        ),
    ),
    "outing": (
        (
            "we are going to the {place}",
            "put on your jacket it is cold outside",
            "the bus is here",
            "did you like it at the {place}",
        ),
        (
            "shall we walk to the {place} today",
            "look there is {person} waiting for us",
            "we need to be back before dark",
        ),
        ("the taxi comes at three", "what should we buy at the {place}", "hold on while we cross the road"),
        (
            "it is sunny let us go out",
            "we will take the train to the {place}",
            "say hello to {person} when we get there",
        ),
    ),
    "health": (
        (
            "does your {body} hurt",
            "it is time for your medicine",
            "how are you feeling {name}",
            "show me where it hurts",
        ),
        ("the doctor wants to look at your {body}", "you had a bad night did you sleep at all", "take a deep breath"),
        ("let me check your temperature", "the nurse comes this afternoon", "is the pain better than yesterday"),
        (
            "swallow the tablet with some {drink}",
            "your {body} looks swollen",
            "we should rest for a while you look tired",
        ),
    ),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "food": ("soup", "rice", "bread", "banana", "pasta", "yoghurt", "potatoes", "cake"),
    "drink": ("water", "juice", "tea", "milk"),
    "body": ("hands", "face", "leg", "back", "arm", "feet", "tummy"),
    "clothes": ("shirt", "jumper", "trousers", "socks"),
    "toy": ("ball", "puzzle", "cards", "train", "blocks", "drum"),
    "place": ("park", "shop", "market", "library", "pool", "kitchen garden", "doctor"),
    "person": ("grandma", "your brother", "the neighbour", "your teacher"),
}
_OPENINGS = ("", "", "", "okay ", "right ", "so ", "well ", "um ", "{name} ", "listen ")
_CLOSINGS = ("", "", "", "", " now", " please", " or not", " okay", " don't you think")
_MISHEARD = {
    "hurt": "heard", "bread": "red", "rice": "right", "tea": "tee", "pain": "pane", "hair": "air", "wash": "watch",
    "dressed": "rest", "soup": "soap", "bus": "boss", "ball": "bowl", "turn": "torn", "feet": "fit", "arm": "are",
    "shower": "hour", "medicine": "many sin", "lunch": "launch", "cards": "cars", "park": "bark", "shop": "chop",
    "hungry": "angry", "breakfast": "break fast", "water": "what a", "eat": "it", "play": "pay", "cold": "gold",
}  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """A transcript as the recogniser returns it."""

    text: str
    confidence: float
    is_partial: bool


def utterance(topic: str, person: Person, session: SessionConditions, rng: np.random.Generator) -> Utterance:
    """Return one transcript of `topic` in the session's wording, with recognition errors."""
    every, *by_session = _TEMPLATES[topic]
    templates = every if rng.random() < 0.6 else by_session[session.wording]
    text = _one(_OPENINGS, rng) + _one(templates, rng) + _one(_CLOSINGS, rng)
    while "{" in text:
        slot = text[text.index("{") + 1 : text.index("}")]
        filling = person.user_id if slot == "name" else _one(_WORDS[slot], rng)
        text = text.replace("{" + slot + "}", filling, 1)
    words, errors = _misrecognise(text.split(), session.word_errors, rng)
    confidence = float(np.clip(rng.normal(0.93 - 0.12 * errors, 0.04), 0.2, 0.99))
    return Utterance(" ".join(words), round(confidence, 2), False)


def cut_short(complete: Utterance, rng: np.random.Generator) -> Utterance:
    """Return the partial transcript that the recogniser returns before the sentence is complete."""
    words = complete.text.split()
    return Utterance(" ".join(words[: max(1, int(len(words) * rng.uniform(0.3, 0.6)))]), complete.confidence, True)


def _misrecognise(words: list[str], share: float, rng: np.random.Generator) -> tuple[list[str], int]:
    """Return the words as recognised, some replaced, lost or doubled, and the number of errors."""
    recognised: list[str] = []
    errors = 0
    for word in words:
        if rng.random() >= share * (3 if word in _MISHEARD else 1):
            recognised.append(word)
            continue
        errors += 1
        if word in _MISHEARD:
            recognised.append(_MISHEARD[word])
        elif rng.random() < 0.3:
            recognised += [word, word]
    return recognised or words, errors


def _one(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
