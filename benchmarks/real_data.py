"""The real data sets as data roots, imported with `model-trainer import`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from model_registry.storage.durable import staged_folder

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(os.environ.get("MODEL_TRAINER_DATA") or ROOT.parent / "shared" / "data")
WORK = Path(os.environ.get("MODEL_TRAINER_BENCH") or ROOT / ".demo" / "bench")

_DIGITS = r"(?P<label>\d)_(?P<user>\w+)_(?P<take>\d+)\.wav"
_TWO_SPEAKERS = r"(?P<label>\d)_(?P<session>(george|jackson))_(?P<take>\d+)\.wav"
IMPORTS: dict[str, tuple[str, ...]] = {  # name -> arguments of `model-trainer import`, the source first
    "digits": ("free-spoken-digits/recordings", "--modality=sound", f"--pattern={_DIGITS}", "--session-size=10"),
    "houses": (
        "houses",
        "--modality=visual_environment",
        "--user=home",
        r"--pattern=(?P<session>\d+)_(?P<label>\w+)\.jpg",
        "--leave-out=contradictions",
    ),
    "contexts": (
        "clinc150/data_small.json",
        "--modality=speech",
        "--user=talker",
        "--split=train",
        "--labels={source}/clinc150/domains.json",
        "--limit=1000",
        "--round-robin=5",
    ),
    "signs": (
        "kinivi-keypoints/keypoint.csv",
        "--modality=gesture",
        "--user=signer",
        "--labels={source}/kinivi-keypoints/keypoint_classifier_label.csv",
        "--blocks=10",
        "--encoding=hand_landmarks_xy_v1",
    ),
    "fingertip": (
        "kinivi-keypoints/point_history.csv",
        "--modality=gesture",
        "--user=mover",
        "--labels={source}/kinivi-keypoints/point_history_classifier_label.csv",
        "--blocks=10",
        "--frame-size=2",
        "--encoding=fingertip_history_xy_v1",
    ),
}
IMPORTS["signs-1000"] = (*IMPORTS["signs"], "--limit=1000")
IMPORTS["digits-1000"] = (
    "free-spoken-digits/recordings",
    "--modality=sound",
    "--user=two",
    f"--pattern={_TWO_SPEAKERS}",
    "--limit=1000",
)


def data_root(name: str) -> Path:
    """Return the data root of an import, which is created if it does not exist."""
    root = WORK / name
    if not root.is_dir():
        source, *arguments = (argument.replace("{source}", str(SOURCE)) for argument in IMPORTS[name])
        with staged_folder(root) as staged:
            command = [sys.executable, "-m", "shared", "import", str(SOURCE / source), f"--data={staged}", "--consent"]
            subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return root


def cropped_houses() -> Path:
    """Return a data root of 1,000 images: five overlapping crops of each of 200 photographs of houses."""
    import cv2

    pictures, root = WORK / "crops", WORK / "houses-1000"
    if not root.is_dir():
        pictures.mkdir(parents=True, exist_ok=True)
        for path in sorted((SOURCE / "houses").glob("*.jpg"))[:200]:
            image = cv2.imread(str(path))
            assert image is not None
            height, width = image.shape[:2]
            for part, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)]):
                top, left = int(0.1 * height * y), int(0.1 * width * x)
                crop = image[top : top + int(0.9 * height), left : left + int(0.9 * width)]
                cv2.imwrite(str(pictures / f"{path.stem}_{part}.jpg"), crop)
        command = [sys.executable, "-m", "shared", "import", str(pictures), f"--data={root}", "--consent", "--link"]
        pattern = r"--pattern=(?P<session>\d+)_(?P<label>[a-z]+)_\d\.jpg"
        words = ["--modality=visual_environment", "--user=home", "--leave-out=contradictions", pattern]
        subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return root
