"""JSON as annotation tools and recognisers write it -> plain items: `{text: …, label: …}` and so on.

Each function returns the items of one format, or None where a value has another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from shared.data.formats import names
from shared.data.formats.labels import label_text

Item = dict[str, Any]
Shape = Callable[[Any], list[Item] | None]


def rasa(value: Any) -> list[Item] | None:
    """Rasa: `{rasa_nlu_data: {common_examples: [{text, intent}]}}`."""
    data = value.get("rasa_nlu_data") if isinstance(value, dict) else None
    examples = data.get("common_examples") if isinstance(data, dict) else None
    if not _objects(examples):
        return None
    return [{"text": item.get("text"), "label": item.get("intent")} for item in examples]


def snips(value: Any) -> list[Item] | None:
    """Snips: `{intents: {name: {utterances: [{data: [{text}, …]}]}}}`, or `{name: [{data: [{text}, …]}]}`."""
    if not isinstance(value, dict):
        return None
    intents = value.get("intents", value)
    if not isinstance(intents, dict) or not intents:
        return None
    items = []
    for label, intent in intents.items():
        utterances = intent.get("utterances") if isinstance(intent, dict) else intent
        if not _objects(utterances) or not all(_objects(utterance.get("data")) for utterance in utterances):
            return None
        for utterance in utterances:
            text = "".join(str(part.get("text", "")) for part in utterance["data"])
            items.append({"text": text, "label": label, "language": value.get("language")})
    return items


def label_studio(value: Any) -> list[Item] | None:
    """Label Studio: `[{data: {text | audio | image}, annotations: [{result: [{value: {choices}}]}]}]`.

    Labels of a region of a sound have its onset and offset.
    """
    if not _objects(value) or not all(isinstance(item.get("data"), dict) and "annotations" in item for item in value):
        return None
    items = []
    for task in value:
        content = {names.normal(key): entry for key, entry in task["data"].items()}
        results = [
            result
            for annotation in task["annotations"] or ()
            if isinstance(annotation, dict) and not annotation.get("was_cancelled")
            for result in annotation.get("result") or ()
            if isinstance(result, dict) and isinstance(result.get("value"), dict)
        ]
        for chosen in (result["value"] for result in results) if results else ({},):
            label = chosen.get("choices") or chosen.get("labels")
            region = {"onset": chosen.get("start"), "offset": chosen.get("end")} if "labels" in chosen else {}
            items.append({**content, "label": label, **region})
    return items


def spacy(value: Any) -> list[Item] | None:
    """spaCy's text categories: `[[text, {cats: {label: score}}]]`; the label is the one with the highest score."""
    if not isinstance(value, list) or not value:
        return None
    items = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict)):
            return None
        cats = pair[1].get("cats")
        if not isinstance(cats, dict) or not cats:
            return None
        items.append({"text": pair[0], "label": max(cats.items(), key=lambda entry: float(entry[1]))[0]})
    return items


def whisper(value: Any) -> list[Item] | None:
    """Whisper: `{segments: [{text, avg_logprob}], language}`; a segment is a sample."""
    segments = value.get("segments") if isinstance(value, dict) else None
    if not _objects(segments) or not all("text" in segment for segment in segments):
        return None
    items = []
    for segment in segments:
        logprob = segment.get("avg_logprob")
        sure = math.exp(min(float(logprob), 0.0)) if isinstance(logprob, int | float) else None
        text = str(segment["text"]).strip()
        items.append({"text": text, "confidence": sure, "language": value.get("language")})
    return [item for item in items if item["text"]]


def vosk(value: Any) -> list[Item] | None:
    """Vosk: `{result: [{conf, word}], text}`, or a list of these; the confidence is the mean of the words'."""
    results = [value] if isinstance(value, dict) else value
    if not _objects(results) or not all("text" in item and ("result" in item or len(item) == 1) for item in results):
        return None
    items = []
    for item in results:
        words = item.get("result") or []
        sure = [word["conf"] for word in words if isinstance(word, dict) and isinstance(word.get("conf"), int | float)]
        confidence = min(max(sum(sure) / len(sure), 0.0), 1.0) if sure else None
        items.append({"text": item["text"], "confidence": confidence})
    return [item for item in items if str(item["text"]).strip()]


def columnar(value: Any) -> list[Item] | None:
    """Columns: `{data: […], labels: […]}`, equally long; also pandas' `{column: {row: value}}`."""
    if not isinstance(value, dict):
        return None
    if value and all(isinstance(column, dict) and column for column in value.values()):
        rows = [set(column) for column in value.values()]
        if all(keys == rows[0] for keys in rows):
            value = {name: list(column.values()) for name, column in value.items()}
    label = names.first_of((*names.LABELS, "y"), value)
    content = names.first_of((*names.TEXTS, *names.VECTORS, *names.PATHS), (name for name in value if name != label))
    if label is None or content is None:
        return None
    columns = {name: column for name, column in value.items() if isinstance(column, list)}
    if {label, content} - columns.keys() or len({len(columns[name]) for name in (label, content)}) != 1:
        return None
    length = len(columns[label])
    columns = {name: column for name, column in columns.items() if len(column) == length}
    rows_of = zip(*columns.values(), strict=True)
    return [_item(zip(columns, row, strict=True), label) for row in rows_of]


def indexed(value: Any) -> list[Item] | None:
    """Objects by id: `{id: {text, label}}`."""
    if not isinstance(value, dict) or not _objects(list(value.values())):
        return None
    items: list[Item] = list(value.values())
    return items if all(names.first_of(names.LABELS, item) is not None for item in items) else None


# Tried in this order; what none of them takes is read as plain lists (`shared.data.formats.json_files`).
SHAPES: dict[str, Shape] = {
    "Rasa": rasa,
    "Snips": snips,
    "Label Studio": label_studio,
    "spaCy": spacy,
    "Whisper": whisper,
    "columns": columnar,
    "objects by id": indexed,
    "Vosk": vosk,
}
KEEP_KEYS = frozenset(["columns", "objects by id"])  # shapes whose items have the keys of the file


def _objects(value: Any) -> TypeGuard[list[Item]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _item(cells: Iterable[tuple[str, Any]], label: str) -> Item:
    return {"label" if name == label else name: label_text(cell) if name == label else cell for name, cell in cells}
