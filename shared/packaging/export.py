"""One ONNX graph from named tensors to a prediction, and the proof that it predicts as training did.

The feature graph is taken over verbatim, so the features that training saw and those that the model computes
are the same nodes. Then every sample is replayed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from shared.errors import ReplayError
from shared.evaluation import Progress
from shared.features.arrays import Array, Inputs, collected_constants, constants_from, namespace
from shared.features.cache import FeatureCache
from shared.features.graph import (
    FeatureGraph,
    Samples,
    TensorSpec,
    bind_inputs,
    build,
    merge_graphs,
    open_session,
)
from shared.features.graph_cache import recall_head_graph
from shared.learning.candidates import FittedModel
from shared.learning.decision_rule import DecisionRule
from shared.learning.heads import Features
from shared.training_run import Exported, Replay

OUTPUTS = ("label", "probabilities", "accepted", "score")


def describe_outputs(labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return name, dtype, shape and meaning of each output of a model with these labels."""
    return [
        {"name": "label", "dtype": "int64", "shape": [], "meaning": "the most probable label, as an index of labels"},
        {
            "name": "probabilities",
            "dtype": "float32",
            "shape": [len(labels)],
            "meaning": "one for each of labels; they add up to 1",
        },
        {
            "name": "accepted",
            "dtype": "bool",
            "shape": [],
            "meaning": "score >= rejection_threshold; where false, the prediction is unknown",
        },
        {
            "name": "score",
            "dtype": "float32",
            "shape": [],
            "meaning": "how well the input fits what the model was trained on; higher is better",
        },
    ]


def export_model(
    graph: FeatureGraph,
    width: int,
    fitted: FittedModel,
    rule: DecisionRule,
    labels: Sequence[str],
    spec: dict[str, Any],
    cache: FeatureCache | None = None,
) -> Exported:
    """Return the graph: inputs of the contract -> label (), probabilities (K,), accepted (), score ()."""
    properties = {"labels": json.dumps(list(labels)), "spec": json.dumps(spec, sort_keys=True)}
    head_graph = _head_graph(width, fitted, rule, cache)
    return Exported(merge_graphs(graph.model, head_graph, properties), head_graph)


def _head_graph(width: int, fitted: FittedModel, rule: DecisionRule, cache: FeatureCache | None) -> bytes:
    """Return the graph from features (1, width) to the prediction.

    Heads of one kind and size share a graph that is traced once, with inputs in place of the fitted parameters; these
    are bound to it afterwards. Replay proves that all of them were.
    """
    with collected_constants() as numbers:
        _predictions(np.zeros((1, width), np.float32), fitted, rule)
    values = {f"learnt_{k}": number for k, number in enumerate(numbers)}
    places = [TensorSpec(name, value.dtype.name, value.shape) for name, value in values.items()]
    entrance = TensorSpec("features", "float32", (1, width))

    def trace() -> bytes:
        arguments = {spec.name: spec.argument() for spec in (entrance, *places)}
        with constants_from([arguments[spec.name] for spec in places]):
            return build(arguments, _predictions(arguments["features"], fitted, rule), {})

    return bind_inputs(
        recall_head_graph((entrance, *places), (fitted.head, fitted.familiarity, rule), trace, cache), values
    )


def replay(
    exported: Exported,
    features: Features,
    samples: Samples,
    whole: Sequence[int],
    fitted: FittedModel,
    rule: DecisionRule,
    progress: Progress = lambda done, total: None,
    tolerance: float = 1e-4,
) -> Replay:
    """Run samples `whole` through the graph, and the features (n, D) of all others through its head graph.

    Raises ReplayError if a probability differs by more than `tolerance` from NumPy, or a label or acceptance
    differs where the score or the best two probabilities are further apart than that.
    """
    expected = [np.asarray(part) for part in rule(*fitted(features))]
    model = open_session(exported.model)
    names = [tensor.name for tensor in model.get_inputs()]
    rest = sorted(set(range(len(features))) - set(whole))
    head_graph: Any = open_session(exported.head_graph) if rest else None

    def compared(session: Any, inputs: Inputs, row: int) -> float:
        return _difference(session.run(OUTPUTS, inputs), expected, row, rule, tolerance)

    def through_all(row: int) -> float:
        sample = samples[row]
        return compared(model, {name: sample[name] for name in names}, row)

    def through_head_graph(row: int) -> float:
        return compared(head_graph, {"features": features[row : row + 1]}, row)

    parts = [(through_all, part) for part in _parts(whole)] + [(through_head_graph, part) for part in _parts(rest)]
    worst, done = 0.0, 0
    with ThreadPoolExecutor(2) as pool:
        differences = pool.map(lambda part: max(map(*part)), parts)
        for (_, rows), difference in zip(parts, differences, strict=True):
            worst = max(worst, difference)
            for _ in rows:
                done += 1
                progress(done, len(features))
    return Replay(len(whole), len(rest), worst)


def _parts(rows: Sequence[int], size: int = 16) -> Iterator[Sequence[int]]:
    """Yield a few rows at a time: handing them to a thread one by one takes as long as running most graphs."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _predictions(features: Array, fitted: FittedModel, rule: DecisionRule) -> dict[str, Array]:
    label, probabilities, accepted, score = rule(fitted.head(features), fitted.familiarity(features))
    xp = namespace(probabilities)
    scalars = {"label": label, "accepted": accepted, "score": score}
    return {"probabilities": xp.reshape(probabilities, (-1,)), **{k: xp.reshape(v, ()) for k, v in scalars.items()}}


def _difference(
    outputs: Sequence[Any], expected: Sequence[Features], row: int, rule: DecisionRule, tolerance: float
) -> float:
    label, probabilities, accepted, score = outputs
    difference = float(np.max(np.abs(probabilities - expected[1][row])))
    first, second = np.sort(expected[1][row])[::-1][:2] if len(probabilities) > 1 else (1.0, 0.0)
    scale = max(1.0, abs(float(expected[3][row])))
    close = abs(float(score) - float(expected[3][row])) <= 10 * tolerance * scale
    near_threshold = abs(float(expected[3][row]) - rule.threshold) <= 10 * tolerance * scale
    wrong = int(label) != int(expected[0][row]) and first - second > 2 * tolerance
    flipped = bool(accepted) != bool(expected[2][row]) and not near_threshold
    if not np.isfinite(difference) or difference > tolerance or wrong or flipped or not close:
        raise ReplayError(
            f"sample {row}: the exported graph predicts {int(label)} with {probabilities.max():.6f}, "
            f"training {int(expected[0][row])} with {first:.6f}; probabilities differ by {difference:.2g}"
        )
    return difference


def spread(count: int, most: int | None) -> list[int]:
    """Return at most `most` sample indices spread evenly over `count`, or all."""
    if most is None or count <= most:
        return list(range(count))
    return sorted({int(k) for k in np.linspace(0, count - 1, most)})
