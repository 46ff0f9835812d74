"""docs/adding-a-modality.md is true: its package, installed beside ours, trains, publishes, predicts and launches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_registry.store import Registry
from tests.paths import ROOT
from tests.test_readme import bash_blocks, run_blocks

PAGE = (ROOT / "docs" / "adding-a-modality.md").read_text(encoding="utf-8")
FILE = re.compile(r"^```\w+\n# (?P<path>touch/\S+)\n(?P<content>.*?)^```$", re.DOTALL | re.MULTILINE)
PRESSES = {  # label -> for how many frames the three sensors are pressed, and how hard
    "long": (8, (0.9, 0.1, 0.1)),
    "short": (3, (0.9, 0.1, 0.1)),
    "edge": (5, (0.1, 0.2, 0.9)),
}


def presses() -> Iterator[str]:
    """Yield rows of a table: a label, and three numbers for each of eight frames."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        for label, (frames, sensors) in PRESSES.items():
            pressure = np.zeros((8, 3))
            pressure[:frames] = sensors
            yield ",".join([label, *(f"{x:.4f}" for x in (pressure + rng.normal(0, 0.03, (8, 3))).ravel())])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder laid out like the project's in which the page's commands have run on its files, and their output."""
    folder = tmp_path_factory.mktemp("touch")
    for name in ("orchestrator", ".venv"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    for match in FILE.finditer(PAGE):
        path = folder / match["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(match["content"], encoding="utf-8")
    names = ["modality.py", "pyproject.toml", "requirements.txt", "train.py"]
    assert sorted(path.name for path in (folder / "touch").rglob("*.*")) == names
    (folder / "presses.csv").write_text("\n".join(presses()) + "\n")
    run, kept = bash_blocks(PAGE)
    assert (len(run), kept) == (1, [])
    code, output = run_blocks(run, folder)
    assert code == 0, output
    return folder, output


@pytest.mark.slow
def test_a_fifth_modality_is_one_package_and_one_entry_point(done: tuple[Path, str]) -> None:
    folder, output = done
    assert "touch-train    Train one user's touch model" in output
    assert "ana  touch: 24 samples, 24 used" in output and "no faults" in output
    entry = Registry(folder / "models").resolve("ana", "touch", "v1").entry
    assert (entry.modality, entry.trainer_name) == ("touch", "touch_trainer")
    assert entry.verdict in ("good", "weak")  # 24 samples show little of what it accepts
    assert entry.metrics["accuracy"] == 1.0
    log = json.loads((folder / "runs/jobs/ana/touch/log.json").read_text())
    assert log["session_count"] == 3 and any(name.startswith("touch_trainer/") for name in log["code"])
    assert "Presses" in next((folder / "models").rglob("model_card_ana_v1.html")).read_text()
    predictions = [json.loads(line) for line in output.splitlines() if '"classifier_output"' in line]
    assert len(predictions) == 9
    assert {prediction["classifier_output"].keys() == {*PRESSES, "unknown"} for prediction in predictions} == {True}


@pytest.mark.slow
def test_a_batch_knows_what_is_up_to_date_and_requests_find_it_by_its_other_name(done: tuple[Path, str]) -> None:
    folder, _ = done
    request = {"user_id": "ana", "modality": "pressure", "retrain_reason": "new samples"}
    wanted = {"model_type": "svm", "hyperparameters": {"C": 2.0}, "feature_set": "level"}
    (folder / "plain.jsonl").write_text(json.dumps(request) + "\n")
    (folder / "svm.jsonl").write_text(json.dumps({**request, "training_config": wanted}) + "\n")
    launch = "orchestrator/launch_all.sh --data data --registry models --runs runs --promote always --requests"
    block = f'export PYTHONPATH="$PWD/plugins:$PYTHONPATH"\n{launch} plain.jsonl\n{launch} svm.jsonl --cold\n'
    code, output = run_blocks([block], folder)
    assert code == 0, output
    assert "1 up to date" in output and "ana touch: v2" in output
    log = json.loads(Registry(folder / "models").resolve("ana", "touch").files["training_log"].read_text())
    (candidate,) = log["training_config"]["candidates"]
    assert (candidate["features"], candidate["classifier"]["type"], candidate["classifier"]["C"]) == (
        ["level"],
        "svm",
        2,
    )
    assert (log["retrain_reason"], log["requested_training_config"]) == ("new samples", wanted)


@pytest.mark.slow
def test_without_its_package_the_models_stay_readable_and_the_rest_says_what_is_missing(done: tuple[Path, str]) -> None:
    folder, _ = done
    code, output = run_blocks(["model-trainer registry show ana touch v1 --registry models\n"], folder)
    assert code == 0 and '"path": ' in output and "users/ana/touch/v1" in output
    predict = "model-trainer predict --user ana --modality touch --registry models presses.csv\n"
    code, output = run_blocks([predict], folder)
    assert code == 2 and "Traceback" not in output
    assert "modality 'touch': no trainer is installed; there are gesture, sound, speech" in output
    code, output = run_blocks(["model-trainer check data\n"], folder)
    assert code == 3 and "modality 'touch': must be one of gesture, sound" in output
