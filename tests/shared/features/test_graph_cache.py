"""A traced graph is kept for the next run, and never mistaken for another."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from shared.features import graph, graph_cache
from shared.features.arrays import Array, Inputs
from shared.features.cache import FeatureCache
from shared.features.graph import FeatureGraph, TensorSpec, joined
from shared.features.graph_cache import graph_key, recall, recalled_meanwhile
from shared.features.sequences import Resampled
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from speech_context_trainer.preprocessing.text import Sentence

CONTRACT = (TensorSpec("said", "float32", (4,)),)


@pytest.fixture(name="tracings", autouse=True)
def _tracings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Forget what this process traced, and list what it traces from now on."""
    done: list[object] = []
    traced = graph._traced

    def spy(contract: tuple[TensorSpec, ...], function: object) -> bytes:
        done.append(function)
        return traced(contract, function)  # type: ignore[arg-type]

    monkeypatch.setattr(graph, "_remembered", spy)
    monkeypatch.setattr(graph_cache, "_LOADED", float("inf"))  # whoever edits sources while tests run
    _forget()
    return done


def _forget() -> None:
    graph_cache._recalled.cache_clear()


def test_the_next_run_traces_nothing_and_has_the_same_graph(tmp_path: Path, tracings: list[object]) -> None:
    cache, models = FeatureCache(tmp_path / "f.sqlite"), []
    for _ in range(2):
        _forget()
        made = FeatureGraph("sentence", CONTRACT, Sentence("said"))
        recall(made, cache)
        models.append(made.model)
        (row,) = made.run([{"said": np.array([3, 0, 4, 0], np.float32)}])
        np.testing.assert_allclose(row, [0.6, 0, 0.8, 0], rtol=1e-6)
    assert models[0] == models[1]
    assert tracings == [Sentence("said")]


@pytest.mark.parametrize("cached", [True, False])
def test_what_was_traced_meanwhile_is_not_traced_again(
    tmp_path: Path, tracings: list[object], cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_remembered", lru_cache(graph._remembered))
    cache = FeatureCache(tmp_path / "f.sqlite") if cached else None
    graphs = [FeatureGraph("sentence", CONTRACT, Sentence("said", weight)) for weight in (1.0, 2.0)]
    with recalled_meanwhile(graphs, cache):
        pass
    assert len(tracings) == 2
    for weight in (1.0, 2.0):
        made = FeatureGraph("sentence", CONTRACT, Sentence("said", weight))
        recall(made, cache)
        assert made.model
    assert len(tracings) == 2


def test_a_graph_that_cannot_be_traced_is_told_where_it_was_begun() -> None:
    def broken(inputs: Inputs) -> Array:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recalled_meanwhile([FeatureGraph("broken", CONTRACT, broken)], None):
        pass


def test_without_a_cache_every_run_traces(tracings: list[object]) -> None:
    for _ in range(2):
        made = FeatureGraph("sentence", CONTRACT, Sentence("said"))
        recall(made, None)
        assert made.model
    assert len(tracings) == 2


def test_a_joined_graph_is_kept_too(tmp_path: Path, tracings: list[object]) -> None:
    cache = FeatureCache(tmp_path / "f.sqlite")
    for _ in range(2):
        _forget()
        both = joined("both", [FeatureGraph(f"{weight}", CONTRACT, Sentence("said", weight)) for weight in (1.0, 2.0)])
        recall(both, cache)
        (row,) = both.run([{"said": np.array([1, 0, 0, 0], np.float32)}])
        assert row.tolist() == [1, 0, 0, 0, 2, 0, 0, 0]
    assert len(tracings) == 3  # the blocks and the whole, once


def test_another_field_or_contract_is_another_graph() -> None:
    wider = (TensorSpec("said", "float32", (5,)),)
    keys = [
        graph_key(contract, function)
        for contract, function in (
            (CONTRACT, Sentence("said")),
            (CONTRACT, Sentence("said", 0.5)),
            (wider, Sentence("said")),
            (CONTRACT, Resampled(2, 16)),
        )
    ]
    assert None not in keys
    assert len(set(keys)) == 4


def test_other_contents_of_a_file_that_is_named_are_another_graph(tmp_path: Path) -> None:
    network, keys = tmp_path / "model.onnx", []
    for content in (b"one", b"two", b"one"):
        network.write_bytes(content)
        keys.append(graph_key(CONTRACT, SpeechEmbedding(network)))
    assert keys[0] == keys[2] != keys[1]


def test_other_code_or_libraries_are_another_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [graph_key(CONTRACT, Sentence("said"))]
    with monkeypatch.context() as patch:
        patch.setattr(graph_cache, "code_fingerprint", lambda package: f"edited {package}")
        keys.append(graph_key(CONTRACT, Sentence("said")))
    with monkeypatch.context() as patch:
        patch.setattr(graph_cache, "library_versions", lambda package: {"spox": f"99 of {package}"})
        keys.append(graph_key(CONTRACT, Sentence("said")))
    assert len(set(keys)) == 3


def test_code_edited_since_it_was_read_keeps_nothing(
    tmp_path: Path, tracings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_cache, "_LOADED", 0.0)
    for _ in range(2):
        _forget()
        made = FeatureGraph("sentence", CONTRACT, Sentence("said"))
        recall(made, FeatureCache(tmp_path / "f.sqlite"))
        assert made.model
    assert len(tracings) == 2


def _plain(inputs: Inputs) -> Array:
    return inputs["said"]


def test_a_function_without_a_value_is_never_kept() -> None:
    assert graph_key(CONTRACT, _plain) is None


def test_a_damaged_entry_is_traced_again(tmp_path: Path, tracings: list[object]) -> None:
    cache, key = FeatureCache(tmp_path / "f.sqlite"), graph_key(CONTRACT, Sentence("said"))
    assert key is not None
    for wrong in (np.zeros(900, np.uint8), np.zeros(5, np.uint8), np.zeros(900, np.float32)):
        cache.put_many("graphs", {key: wrong})
        _forget()
        made = FeatureGraph("sentence", CONTRACT, Sentence("said"))
        recall(made, cache)
        (row,) = made.run([{"said": np.array([3, 0, 4, 0], np.float32)}])
        np.testing.assert_allclose(row, [0.6, 0, 0.8, 0], rtol=1e-6)
    assert len(tracings) == 3
