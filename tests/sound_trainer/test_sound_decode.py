"""Sound files of every kind to waves: what is read, what is refused, and what is known of the recording."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from shared.data_loader import DataFilter, load_dataset
from shared.errors import DataError
from shared.features.cache import FeatureCache
from shared.job import Job
from shared.logs import RunLog
from sound_trainer.preprocessing import decode as decoding_module
from sound_trainer.preprocessing import recordings as recordings_module
from sound_trainer.preprocessing.decode import Decoding, UnreadableSoundError, loudest, read_wave
from sound_trainer.preprocessing.recordings import Recordings, decode, open_recordings
from sound_trainer.preprocessing.riff import wav_length

RATE = 16_000
DECODING = Decoding()


def sine(seconds: float, rate: int, pitch: float = 440.0, gain: float = 0.5) -> NDArray[np.float64]:
    return np.asarray(gain * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate))


def reason(path: Path, decoding: Decoding = DECODING, **region: float) -> str:
    with pytest.raises(UnreadableSoundError) as refused:
        read_wave(path, decoding, **region)
    return str(refused.value)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_number_of_channels_becomes_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([sine(1.0, rate)] * channels, axis=1), rate)
    wave, quality = read_wave(path, DECODING)
    assert wave.dtype == np.float32
    assert wave.shape == pytest.approx((RATE,), abs=2)
    middle = slice(1000, 15_000)
    np.testing.assert_allclose(wave[middle], sine(1.0, RATE)[middle], atol=0.01)
    assert (quality.rate, quality.channels) == (rate, channels)


@pytest.mark.parametrize(
    ("ending", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "PCM_32"),
        ("wav", "FLOAT"),
        ("wav", "DOUBLE"),
        ("wav", "ULAW"),
        ("flac", "PCM_16"),
        ("flac", "PCM_24"),
        ("ogg", "VORBIS"),
        ("ogg", "OPUS"),
    ],
)
def test_every_container_and_width_gives_the_same_sound(tmp_path: Path, ending: str, subtype: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, sine(1.0, RATE), RATE, subtype=subtype)
    wave, _ = read_wave(path, DECODING)
    middle = slice(2000, 14_000)
    assert np.corrcoef(wave[middle], sine(1.0, RATE)[middle])[0, 1] > 0.99
    assert np.abs(wave[middle]).max() == pytest.approx(0.5, abs=0.06)


def test_onset_and_offset_are_honoured(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([sine(1.0, 8000, 300.0), sine(1.0, 8000, 900.0)]), 8000)
    wave, quality = read_wave(path, DECODING, onset=1.25, offset=1.75)
    assert quality.seconds == pytest.approx(0.5)
    strength = np.abs(np.fft.rfft(wave))
    assert np.argmax(strength) * RATE / len(wave) == pytest.approx(900.0, abs=5)
    assert "before its onset" in reason(path, onset=2.5)
    assert "before its offset" in reason(path, onset=1.0, offset=3.0)


def test_a_region_of_a_recording_that_is_too_long_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(70.0, 8000), 8000)
    assert read_wave(path, DECODING, onset=65.0, offset=66.0)[1].seconds == pytest.approx(1.0)
    assert "lasts more than 60 s" in reason(path)
    assert read_wave(path, Decoding(longest_seconds=80))[1].seconds == pytest.approx(70.0)


def test_a_file_that_is_too_large_is_refused_unless_configured(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(1.0, RATE), RATE)
    assert "at most 0.02 are read" in reason(path, Decoding(largest_bytes=20_000))
    read_wave(path, Decoding(largest_bytes=40_000))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "use wav, flac or ogg"), (b"RIFF\x00\x00\x00\x00WAVE", "use wav"), (b"this is no sound" * 100, "use wav")],
)
@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a"])
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes, expected: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert expected in reason(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "not found" in reason(tmp_path / "a.wav")


def test_sounds_without_content_are_refused(tmp_path: Path) -> None:
    empty, short, broken = tmp_path / "empty.wav", tmp_path / "short.wav", tmp_path / "broken.wav"
    soundfile.write(empty, np.zeros(0), RATE)
    soundfile.write(short, sine(0.01, RATE), RATE)
    soundfile.write(broken, np.full(RATE, np.nan), RATE, subtype="FLOAT")
    assert "holds no sound" in reason(empty)
    assert "lasts 10 ms; at least 20 are needed" in reason(short)
    assert "not finite" in reason(broken)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_recording_that_was_cut_short_is_refused_unless_a_region_before_its_end_is_named(
    tmp_path: Path, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(2.0, RATE), RATE, subtype=subtype)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert re.match(r"is cut short: its header promises 2\.0\d s, (1\.00|0\.99) s are there", reason(path))
    assert read_wave(path, DECODING, offset=0.9)[1].seconds == pytest.approx(0.9)
    with pytest.raises(DataError, match="is cut short"):
        decode(path, {"decoding": DECODING.model_dump(mode="json")}, {})
    size = whole.index(b"data") + 4
    for unknown in (0, 0x7FFF_FFFF, 0xFFFF_FFFF):  # as programs write that do not know the length when they begin
        path.write_bytes(whole[:size] + struct.pack("<I", unknown) + whole[size + 4 :])
        length = wav_length(path)
        assert length is not None and length.share_present == 1.0 and length.is_missing == (unknown == 0)
    path.write_bytes(whole[: whole.index(b"fmt ") + 2])
    assert wav_length(path) is None and "use wav" in reason(path)


def test_a_library_that_fails_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cannot cache function")

    path = tmp_path / "a.wav"
    soundfile.write(path, sine(1.0, RATE), RATE)
    monkeypatch.setattr(decoding_module.librosa, "resample", broken)
    with pytest.raises(RuntimeError, match="cannot cache function"):
        read_wave(path, DECODING)


def test_no_other_decoder_reads_a_file_that_libsndfile_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise soundfile.SoundFileRuntimeError("lost sync")

    path = tmp_path / "a.wav"
    soundfile.write(path, sine(1.0, RATE), RATE)
    monkeypatch.setattr(soundfile.SoundFile, "read", damaged)
    assert "unsupported audio format" in reason(path)  # given a path, librosa would hand it to audioread, and FFmpeg


def test_of_a_long_sound_the_loudest_window_is_used(tmp_path: Path) -> None:
    wave = np.concatenate([sine(6.0, RATE, gain=0.05), sine(2.0, RATE, gain=0.5), sine(6.0, RATE, gain=0.05)])
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, RATE)
    found, quality = read_wave(path, Decoding(window_seconds=2.0))
    assert quality.seconds == pytest.approx(14.0)
    assert len(found) == 2 * RATE
    assert np.sqrt(np.mean(found**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    np.testing.assert_array_equal(loudest(found, 3 * RATE), found)


def test_clipping_and_the_noise_floor_are_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.concatenate([np.zeros(RATE // 2), sine(0.5, RATE), np.zeros(RATE // 2)])
    clean += 0.001 * rng.normal(size=len(clean))
    path = tmp_path / "a.wav"
    soundfile.write(path, clean, RATE)
    quality = read_wave(path, DECODING)[1]
    assert quality.clipped == 0.0
    assert quality.background_db == pytest.approx(-60, abs=2)
    assert quality.loudest_db == pytest.approx(-9, abs=1)
    soundfile.write(path, np.clip(clean * 6, -1, 1), RATE)
    assert read_wave(path, DECODING)[1].clipped > 0.1


def test_predicting_reads_as_training_does(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(5.0, 8000), 8000)
    spec = {"decoding": Decoding(window_seconds=3.0).model_dump(mode="json")}
    np.testing.assert_array_equal(decode(path, spec, {})["wave"], read_wave(path, Decoding(window_seconds=3.0))[0])
    with pytest.raises(DataError, match=r"b\.wav: media: file not found"):
        decode(tmp_path / "b.wav", spec, {})


# --- a whole data set


def write_session(root: Path, sounds: dict[str, NDArray[np.float64] | bytes], **fields: Any) -> Path:
    """Write one session whose examples are `sounds`, name -> wave at 16 kHz or the file's bytes."""
    folder = root / "users" / "ana" / "sessions" / "s1"
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": "s1"}))
    lines = []
    for number, (name, sound) in enumerate(sounds.items()):
        if isinstance(sound, bytes):
            (folder / name).write_bytes(sound)
        else:
            soundfile.write(folder / name, sound, RATE)
        media = {"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        example = {"record_id": name, "user_id": "ana", "session_id": "s1", "modality": "sound", "media": media}
        example |= {"timestamp": "2026-03-01T10:00:00.000Z", "label": f"label{number % 2}", "consent_given": True}
        lines.append(json.dumps(example | fields))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return root


def opened(root: Path, cache: FeatureCache | None = None) -> Recordings:
    dataset = load_dataset(root, ("ana",), "sound", DataFilter())
    return open_recordings(Job(("ana",), root, root, "r", cache=cache, log=RunLog(io.StringIO())), dataset, DECODING)


GOOD = {f"{k}.wav": sine(0.3, RATE, 200.0 + 50 * k) for k in range(4)}


def test_all_sounds_that_cannot_be_used_are_reported_at_once(tmp_path: Path) -> None:
    bad = {"silent.wav": np.zeros(RATE), "text.wav": b"no sound", "short.wav": sine(0.005, RATE), **GOOD}
    with pytest.raises(DataError) as refused:
        opened(write_session(tmp_path, bad))
    faults = [(fault.line, fault.field, fault.reason.split(": ")[0]) for fault in refused.value.faults]
    assert faults == [(1, "media", "silent.wav"), (2, "media", "text.wav"), (3, "media", "short.wav")]
    assert all(fault.path.endswith("examples.jsonl") for fault in refused.value.faults)


def test_recordings_report_how_each_was_made(tmp_path: Path) -> None:
    report = opened(write_session(tmp_path, GOOD)).report()
    assert [row["record_id"] for row in report] == sorted(GOOD)
    assert all(row["seconds"] == 0.3 and row["rate"] == RATE and -7 < row["peak_db"] < -5 for row in report)


def test_a_second_run_decodes_nothing_until_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = write_session(tmp_path / "data", GOOD), FeatureCache(tmp_path / "cache.sqlite")
    first = opened(root, cache)
    calls = []
    read = recordings_module.read_wave
    monkeypatch.setattr(recordings_module, "read_wave", lambda *given: calls.append(given) or read(*given))
    second = opened(root, cache)
    assert not calls
    assert second.report() == first.report()
    np.testing.assert_array_equal(second[2]["wave"], first[2]["wave"])
    assert len(calls) == 1


def test_another_region_is_another_sound(tmp_path: Path) -> None:
    whole, part = write_session(tmp_path / "a", GOOD), write_session(tmp_path / "b", GOOD, onset=0.1)
    assert not set(opened(whole).keys) & set(opened(part).keys)


def test_waves_beyond_the_room_for_them_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_session(tmp_path, GOOD)
    kept = [sample["wave"] for sample in opened(root)]
    monkeypatch.setattr(recordings_module, "_KEPT_BYTES", 2 * kept[0].nbytes)
    for one, other in zip(kept, opened(root), strict=True):
        np.testing.assert_array_equal(one, other["wave"])
