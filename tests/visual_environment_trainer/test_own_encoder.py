"""Encoders by name, by folder and by path and contract: used, noted where absent, refused where they do not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from pydantic import ValidationError

from model_registry.storage.encoders import verify_encoder
from shared.config import load_config
from shared.errors import ConfigError
from tests.visual_environment_trainer.networks import DEVIATION, MEAN, SIDE, contract, network, pretrained
from visual_environment_trainer.preprocessing.choosing import FALLBACK, OwnEncoder, select_encoder
from visual_environment_trainer.train import VisualConfig, wanted_encoders


def _own(path: Path, **changes: Any) -> OwnEncoder:
    return OwnEncoder.model_validate(contract(path, **changes))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("opset", [13, 21])
def test_an_own_network_is_given_what_its_contract_says(layout: str, opset: int, tmp_path: Path) -> None:
    path = network(tmp_path / "mine.onnx", layout, opset=opset)
    encoder, notes = select_encoder([_own(path, layout=layout)], tmp_path / "out")
    assert encoder is not None
    assert notes == []
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    found = encoder.run({"image": images})
    scaled = ((images - np.array(MEAN)) / np.array(DEVIATION)).astype(np.float32)
    given = scaled if layout == "nhwc" else scaled.transpose(0, 3, 1, 2)
    pooled, maps = map(np.asarray, onnxruntime.InferenceSession(path).run(["pooled", "maps"], {"pixels": given}))
    np.testing.assert_allclose(found["embedding"], pooled, atol=1e-5)
    np.testing.assert_allclose(found["mid"], maps.mean(axis=(2, 3)), atol=1e-5)


def test_it_is_kept_whole_under_its_hash_and_made_once(tmp_path: Path) -> None:
    own = _own(network(tmp_path / "mine.onnx"), middle=None)
    first, second = (select_encoder([own], tmp_path / "out")[0] for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.folder == second.folder == tmp_path / "out" / "encoders" / first.spec.sha256
    assert verify_encoder(first.folder) == first.spec
    assert first.spec.outputs == {"embedding": 8}
    assert (first.spec.licence, first.spec.source.package) == ("CC0-1.0", "mine.onnx")
    assert first.spec.source.version == hashlib.sha256((tmp_path / "mine.onnx").read_bytes()).hexdigest()
    other, _ = select_encoder([_own(tmp_path / "mine.onnx", middle=None, mean=[0, 0, 0])], tmp_path / "out")
    assert other is not None
    assert other.spec.sha256 != first.spec.sha256, "another scaling is another encoder"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": "image"}, "its inputs are pixels, not image alone"),
        ({"output": "logits"}, "its outputs are pooled, maps, not logits"),
        ({"side": 32}, r"pixels is \(n, 3, 16, 16\), not \(n, 3, 32, 32\)"),
        ({"layout": "nhwc"}, r"not \(n, 16, 16, 3\)"),
        ({"path": "nowhere.onnx"}, "nowhere.onnx: invalid ONNX network"),
    ],
)
def test_a_contract_that_the_network_does_not_keep_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = network(tmp_path / "mine.onnx")
    with pytest.raises(ConfigError, match=reason):
        select_encoder([OwnEncoder.model_validate(contract(path) | changes)], tmp_path / "out")


def test_what_is_no_network_or_takes_one_image_at_a_time_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ConfigError, match="invalid ONNX network"):
        select_encoder([_own(tmp_path / "text.onnx")], tmp_path / "out")
    single = network(tmp_path / "single.onnx", batch=1)
    with pytest.raises(ConfigError, match="cannot encode two images at once"):
        select_encoder([_own(single)], tmp_path / "out")


def test_a_network_with_foreign_operators_is_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "mine.onnx")
    model = onnx.load(path)
    model.graph.node[1].domain, model.graph.node[1].op_type = "com.example", "Glow"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"mine\.onnx: cannot become part of a graph"):
        select_encoder([_own(path)], tmp_path / "out")


def test_the_first_that_is_available_is_selected_and_the_others_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(pretrained(tmp_path, "lite0")))
    encoder, notes = select_encoder(["lite2", "lite0"], tmp_path / "out")
    assert encoder is not None
    assert encoder.spec.name == "lite0"
    (note,) = notes
    assert "without the image encoder lite2" in note
    encoder, notes = select_encoder(["lite7", "lite8"], tmp_path / "out")
    assert encoder is None
    assert notes[0] == FALLBACK
    assert len(notes) == 3


def test_a_path_that_leads_nowhere_is_an_error_and_no_reason_to_fall_back(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        select_encoder([str(tmp_path / "nowhere"), "lite0"], tmp_path / "out")


def test_an_encoder_of_something_else_than_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pretrained(tmp_path, "odd") / "odd"
    text = (folder / "encoder.json").read_text().replace('"uint8"', '"float32"')
    (folder / "encoder.json").write_text(text)
    with pytest.raises(ConfigError, match="own_encoder"):
        select_encoder([str(folder)], tmp_path / "out")


def test_the_configuration_takes_a_name_a_folder_or_a_contract(tmp_path: Path) -> None:
    for value in ("lite2", str(tmp_path), contract(tmp_path / "x.onnx")):
        VisualConfig.model_validate({"encoder": value})
    with pytest.raises(ValidationError, match="layout"):
        VisualConfig.model_validate({"encoder": contract(tmp_path / "x.onnx", layout="chwn")})


def test_an_encoder_that_few_images_override_is_refused_and_not_ignored() -> None:
    chosen = load_config(VisualConfig, None, ["encoder=lite0"])
    with pytest.raises(ConfigError, match=r"with 30 images the encoder is few_encoder, lite2_int8.*few_encoder, too"):
        wanted_encoders(chosen, 30)
    assert wanted_encoders(chosen, 601) == ["lite0"]
    for settings in (["encoder=lite0", "few_encoder=null"], ["encoder=lite0", "few_up_to=0"]):
        assert wanted_encoders(load_config(VisualConfig, None, settings), 30) == ["lite0"]
    both = load_config(VisualConfig, None, ["encoder=lite0", "few_encoder=lite2"])
    assert wanted_encoders(both, 30) == ["lite2", "lite0"]
    assert wanted_encoders(VisualConfig(), 30) == ["lite2_int8", "lite0_int8"]
    assert wanted_encoders(VisualConfig.model_validate(VisualConfig().model_dump()), 30) == ["lite2_int8", "lite0_int8"]
