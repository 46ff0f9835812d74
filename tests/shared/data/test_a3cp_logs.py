"""A3CP's own logs become a dataset: labels joined in the stated order, repetition and unknown fields tolerated."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.data_loader import DataFilter, Dataset, load_dataset, load_features, users_with_data
from shared.errors import DataError
from tests.shared.data.a3cp_folders import (
    capture_open,
    event,
    features_ready,
    recorded_session,
    session_start,
    write_final_labels,
    write_log,
    write_transcripts,
)

LABELS = {"c1": "eat", "c2": "drink", "c3": "eat", "c4": "drink"}


def load(root: Path, modality: str = "gesture", minimum: int = 1, **given: Any) -> Dataset:
    return load_dataset(root, ["anna"], modality, DataFilter(**given), minimum_per_label=minimum)


def refusal(root: Path, modality: str = "gesture") -> DataError:
    with pytest.raises(DataError) as caught:
        load(root, modality)
    return caught.value


def labels_of(dataset: Dataset) -> dict[str, str]:
    return {sample.record_id.removesuffix("-ready"): sample.label for sample in dataset.samples}


@pytest.mark.parametrize("top", ["logs", "."])
def test_captures_are_read_with_their_intents_and_features(tmp_path: Path, top: str) -> None:
    path = write_log(
        tmp_path, "sess_0123456789abcdef", recorded_session(tmp_path, "sess_0123456789abcdef", LABELS), top=top
    )
    dataset = load(tmp_path)
    assert labels_of(dataset) == LABELS
    assert set(dataset.session_ids) == {"sess_0123456789abcdef"}
    assert load_features(dataset.samples[0]).shape == (3, 214)
    assert (dataset.samples[0].source, dataset.samples[0].line) == (str(path), 3)
    assert dataset.samples[0].example.performer_id == "carer01"
    assert dataset.sessions["sess_0123456789abcdef"].is_training_data is True
    assert users_with_data(tmp_path) == {"anna": {"gesture": 4}}


def test_captures_of_a_modality_that_nothing_here_trains_are_skipped_with_a_warning(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    write_log(tmp_path, "s1", [*events, features_ready(tmp_path, "c5", "s1", modality="smell")])
    dataset = load(tmp_path)
    assert labels_of(dataset) == LABELS
    assert ["'smell' has no trainer here" in warning.reason for warning in dataset.warnings] == [True]


def test_the_format_can_be_named_and_is_then_required(tmp_path: Path) -> None:
    write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", LABELS))
    chosen = DataFilter()
    named = load_dataset(tmp_path, ["anna"], "gesture", chosen, data_format="a3cp")
    assert named.fingerprint == load(tmp_path).fingerprint
    with pytest.raises(DataError):
        load_dataset(tmp_path, ["anna"], "gesture", chosen, data_format="own")


def test_final_labels_stand_before_intents_and_intents_before_the_sessions(tmp_path: Path) -> None:
    events = [
        session_start("s1", training_intent_label="session's"),
        capture_open("c1", "s1", annotation={"intent": "intent's"}),
        features_ready(tmp_path, "c1", "s1"),
        capture_open("c2", "s1", annotation={"intent": "intent's"}),
        features_ready(tmp_path, "c2", "s1"),
        capture_open("c3", "s1"),
        features_ready(tmp_path, "c3", "s1"),
        capture_open("c4", "s1", annotation={"intent": "intent's"}),
        features_ready(tmp_path, "c4", "s1"),
        event("later", "s1", 90, capture_id="c4", label_correction="corrected"),
    ]
    write_log(tmp_path, "s1", events)
    final = {
        "record_id": "c1-ready",
        "session_id": "s1",
        "modality": "gesture",
        "predicted_label": "x",
        "final_label": "final",
        "partner_action": "correct",
        "consent_given": True,
        "is_demo": False,
        "timestamp": "2026-03-01T11:00:00.000Z",
    }
    earlier = final | {"final_label": "first thought", "timestamp": "2026-03-01T10:59:00.000Z"}
    write_final_labels(tmp_path, [final, earlier])
    dataset = load(tmp_path)
    assert labels_of(dataset) == {"c1": "final", "c2": "intent's", "c3": "session's", "c4": "corrected"}
    status = {sample.record_id: sample.example.label_status for sample in dataset.samples}
    assert status == {
        "c1-ready": "corrected",
        "c2-ready": "unconfirmed",
        "c3-ready": "unconfirmed",
        "c4-ready": "corrected",
    }


def test_a_final_label_may_name_the_captures_first_record(tmp_path: Path) -> None:
    write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", LABELS))
    row = {"record_id": "c1-open", "session_id": "s1", "final_label": "rest", "timestamp": "2026-03-01T11:00:00.000Z"}
    write_final_labels(tmp_path, [row])
    assert labels_of(load(tmp_path))["c1"] == "rest"


def test_repeated_rows_and_unknown_fields_are_tolerated(tmp_path: Path) -> None:
    events = [value | {"something_new": {"deep": [1]}} for value in recorded_session(tmp_path, "s1", LABELS)]
    write_log(tmp_path, "s1", [value for value in events for _ in range(3)])
    dataset = load(tmp_path)
    assert labels_of(dataset) == LABELS


def test_features_that_were_extracted_again_replace_the_first(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    first = features_ready(tmp_path, "c1", "s1", 0, array=[[1.0] * 214])
    again = features_ready(tmp_path, "c1", "s1", 30, array=[[2.0] * 214, [2.0] * 214]) | {"record_id": "c1-again"}
    events = [value for value in events if value["record_id"] != "c1-ready"]
    write_log(tmp_path, "s1", [*events, again, first])
    dataset = load(tmp_path)
    assert "c1-again" in {sample.record_id for sample in dataset.samples}
    assert [(d.record_id, d.reason) for d in dataset.ledger] == [("c1-ready", "features were extracted again")]


def test_one_record_id_for_two_different_files_is_a_fault(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    other = features_ready(tmp_path, "c9", "s1") | {"record_id": "c1-ready"}
    write_log(tmp_path, "s1", [*events, other])
    assert "event.record_id: 'c1-ready' occurs twice" in str(refusal(tmp_path))


def test_consent_refused_anywhere_and_demo_anywhere_are_left_out(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS | {"c5": "eat", "c6": "drink"})
    events.append(event("withdrawal", "s1", 90, capture_id="c5", consent_given=False))
    events.append(event("demonstration", "s1", 90, capture_id="c6", is_demo=True))
    write_log(tmp_path, "s1", events)
    dataset = load(tmp_path)
    assert labels_of(dataset) == LABELS
    assert {(d.record_id, d.reason) for d in dataset.ledger} == {("c5-ready", "no consent"), ("c6-ready", "demo data")}


def test_without_a_word_on_consent_nothing_is_used(tmp_path: Path) -> None:
    write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", LABELS, consent_given=None))
    assert "4 left out (no consent)" in str(refusal(tmp_path))
    assert len(load(tmp_path, require_consent=False)) == 4


def test_consent_that_nothing_speaks_of_can_be_stated_by_name_and_a_refusal_stays(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS | {"c5": "eat"}, consent_given=None)
    events.append(event("refusal", "s1", 90, capture_id="c5", consent_given=False))
    path = write_log(tmp_path, "s1", events)
    dataset = load(tmp_path, require_consent=False)
    (warning,) = dataset.warnings
    assert (warning.path, warning.field) == (str(path.parent), "consent_given")
    assert "nothing says whether consent was given for 4 of 5 samples: they are left out" in warning.reason
    assert "--consent-by NAME" in warning.reason and "--set data.consent_by=NAME" in warning.reason
    stated = load(tmp_path, consent_by="Mia Berger, guardian")
    assert len(stated) == 4 and stated.warnings == ()
    assert [(d.record_id, d.reason) for d in stated.ledger] == [("c5-ready", "no consent")]


def test_a_finalised_transcript_may_be_a_message_of_the_log(tmp_path: Path) -> None:
    spoken = {"modality": "speech", "source": "speech_transcriber", "consent_given": True}
    for session, label in (("s1", "eat"), ("s2", "drink")):
        messages = [
            event(
                f"{session}-m{k}", session, k, **spoken, context_partner_speech=f"words {k}", ASR_confidence_score=0.8,
                context_location="kitchen", is_partial=k == 3, final_label="rest" if k == 2 else None,
            )
            for k in range(4)
        ]  # fmt: skip
        write_log(tmp_path, session, [session_start(session, training_intent_label=label), *messages])
    again = {"transcript": "words 0", "timestamp": "2026-03-01T10:00:00.000Z", "session_id": "s1", "user_id": "anna"}
    write_transcripts(tmp_path, "s1", [again])
    dataset = load(tmp_path, "speech")
    said = sorted((s.session_id, s.example.transcript, s.label) for s in dataset.samples)
    assert said == [
        ("s1", "words 0", "eat"), ("s1", "words 1", "eat"), ("s1", "words 2", "rest"),
        ("s2", "words 0", "drink"), ("s2", "words 1", "drink"), ("s2", "words 2", "rest"),
    ]  # fmt: skip
    of_messages = [sample.example for sample in dataset.samples if sample.record_id.startswith("s2")]
    assert {(e.confidence, e.location, e.partner_speech) for e in of_messages} == {(0.8, "kitchen", None)}
    assert Counter(d.reason for d in dataset.ledger) == {"partial transcript": 2, "duplicate": 1}
    assert users_with_data(tmp_path) == {"anna": {"speech": 9}}


def test_a_capture_without_a_label_is_a_fault_in_a_training_session_only(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    path = write_log(tmp_path, "s1", [*events, features_ready(tmp_path, "c5", "s1")])
    (fault,) = refusal(tmp_path).faults
    assert (fault.path, fault.line, fault.field) == (str(path), 10, "label")
    events[0]["is_training_data"] = False
    write_log(tmp_path, "s1", [*events, features_ready(tmp_path, "c5", "s1")])
    assert [(d.record_id, d.reason) for d in load(tmp_path).ledger] == [("c5-ready", "no label")]


def test_a_rejected_capture_is_left_out(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS | {"c5": "eat"})
    events.append(event("rejection", "s1", 90, capture_id="c5", label_status="rejected"))
    write_log(tmp_path, "s1", events)
    assert [(d.record_id, d.reason) for d in load(tmp_path).ledger] == [("c5-ready", "label is rejected")]


def test_another_major_version_is_a_fault_and_another_minor_version_a_warning(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    newer = [value | {"schema_version": "1.2.0"} for value in events]
    path = write_log(tmp_path, "s1", newer)
    (warning,) = load(tmp_path).warnings
    assert (warning.path, warning.line, warning.field) == (str(path), 1, "event.schema_version")
    write_log(tmp_path, "s1", [*events, events[-1] | {"schema_version": "2.0.0"}])
    assert "event.schema_version: 2.0.0 is not supported" in str(refusal(tmp_path))


def test_a_patch_level_is_no_warning_and_the_extractor_is_no_performer(tmp_path: Path) -> None:
    events = [value | {"schema_version": "1.0.1"} for value in recorded_session(tmp_path, "s1", LABELS)]
    ready = [value | {"performer_id": "system"} for value in events if value.get("event") == "raw_features.ready"]
    others = [value for value in events if value.get("event") != "raw_features.ready"]
    write_log(tmp_path, "s1", [*others, *ready])
    dataset = load(tmp_path)
    assert dataset.warnings == ()
    assert {sample.example.performer_id for sample in dataset.samples} == {"carer01"}


def test_a_final_label_on_an_event_is_the_label(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    first = next(value for value in events if value.get("event") == "raw_features.ready")
    first["final_label"] = "rest"
    write_log(tmp_path, "s1", [*events, *recorded_session(tmp_path, "s1", {"c9": "rest"})[1:]])
    labels = labels_of(load(tmp_path))
    assert labels[first["capture_id"]] == "rest"


def test_an_absolute_address_below_the_root_is_the_file_there(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    for value in events:
        if "raw_features_ref" in value:
            value["raw_features_ref"]["uri"] = f"file://{tmp_path}/{value['raw_features_ref']['uri']}"
    write_log(tmp_path, "s1", events)
    assert labels_of(load(tmp_path)) == LABELS


def test_faults_of_a_log_are_told_at_once(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS)
    outside = features_ready(tmp_path, "c5", "s1", annotation={"intent": "eat"})
    outside["raw_features_ref"]["uri"] = "../../secret.npz"
    wrong = [
        outside | {"label_correction": "eat"},
        event("no time", "s1") | {"timestamp": "2026-03-01T10:00:00"},
        event("other user", "s1", user="ben"),
        event("other session", "s2"),
        features_ready(tmp_path, "c6", "s1", modality="Smell!", label_correction="eat"),
        {"record_id": "incomplete"},
    ]
    path = write_log(tmp_path, "s1", [*events, *wrong])
    with path.open("a") as file:
        file.write("broken\n" + json.dumps({"event": 5}) + "\n" + json.dumps({"x": "y" * 600_000}) + "\n")
    (tmp_path / "data/users/anna/sessions/s1/features/c1.npz").unlink()
    (tmp_path / "data/users/anna/sessions/s1/features/c2.npz").write_bytes(b"changed")
    found = {(fault.line, fault.field) for fault in refusal(tmp_path).faults}
    assert found >= {
        (3, "features"),
        (5, "features"),
        (10, "event.raw_features_ref.uri"),
        (11, "event.timestamp"),
        (12, "event.user_id"),
        (13, "event.session_id"),
        (14, "event.modality"),
        (15, "event.schema_version"),
        (15, "event.user_id"),
        (15, "event.timestamp"),
        (16, "(line)"),
        (17, "event"),
        (18, "(line)"),
    }


def test_a_last_line_that_is_still_being_written_is_a_warning(tmp_path: Path) -> None:
    path = write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", LABELS))
    with path.open("a") as file:
        file.write('{"recorded_at": "2026')
    dataset = load(tmp_path)
    assert len(dataset) == 4
    assert [(warning.line, warning.reason) for warning in dataset.warnings] == [(10, "is incomplete, and was left out")]


def test_transcripts_take_the_sessions_label_and_partial_ones_are_left_out(tmp_path: Path) -> None:
    for session, label in (("s1", "eat"), ("s2", "drink")):
        write_log(tmp_path, session, [session_start(session, training_intent_label=label)])
        rows = [
            {
                "transcript": f"{label} {k}",
                "timestamp": f"2026-03-01T10:00:0{k}.000Z",
                "session_id": session,
                "user_id": "anna",
                "confidence": 0.9,
                "language": "en",
                "is_partial": k == 2,
            }
            for k in range(3)
        ]
        write_transcripts(tmp_path, session, [*rows, rows[0], rows[0] | {"user_id": "ben"}])
    dataset = load(tmp_path, "speech", minimum=2)
    assert sorted((s.label, s.example.transcript) for s in dataset.samples) == [
        ("drink", "drink 0"),
        ("drink", "drink 1"),
        ("eat", "eat 0"),
        ("eat", "eat 1"),
    ]
    assert sorted(d.reason for d in dataset.ledger) == [
        "duplicate",
        "duplicate",
        "partial transcript",
        "partial transcript",
    ]
    assert dataset.samples[0].example.confidence == 0.9
    assert users_with_data(tmp_path) == {"anna": {"speech": 6}}


def test_a_final_label_of_a_transcripts_segment_is_its_label(tmp_path: Path) -> None:
    write_log(tmp_path, "s1", [session_start("s1", training_intent_label="eat")])
    rows = [
        {
            "transcript": f"words {k}",
            "timestamp": "2026-03-01T10:00:00.000Z",
            "session_id": "s1",
            "user_id": "anna",
            "segment_id": f"segment{k}",
        }
        for k in range(2)
    ]
    write_transcripts(tmp_path, "s1", rows)
    final = {"record_id": "segment1", "final_label": "rest", "timestamp": "2026-03-01T11:00:00.000Z"}
    write_final_labels(tmp_path, [final])
    assert {s.example.transcript: s.label for s in load(tmp_path, "speech").samples} == {
        "words 0": "eat",
        "words 1": "rest",
    }


def test_context_is_joined_from_every_row(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "s1", LABELS, context={"location": "kitchen"})
    events.append(event("more", "s1", 9, capture_id="c1", context={"partner_speech": "Are you hungry?"}))
    write_log(tmp_path, "s1", events)
    first, second = (sample.example for sample in load(tmp_path).samples[:2])
    assert (first.location, first.partner_speech) == ("kitchen", "Are you hungry?")
    assert (second.location, second.partner_speech) == ("kitchen", None)


def test_a_user_with_both_layouts_must_choose(tmp_path: Path) -> None:
    from tests.shared.data.session_folders import two_sessions

    write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", LABELS))
    two_sessions(tmp_path)
    assert "choose with --data-format" in str(refusal(tmp_path))
    chosen = DataFilter()
    assert len(load_dataset(tmp_path, ["anna"], "gesture", chosen, data_format="a3cp")) == 4
    assert len(load_dataset(tmp_path, ["anna"], "speech", chosen, data_format="own")) == 8


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_log(root, "s1", recorded_session(root, "s1", LABELS))
    features = root / "data/users/anna/sessions/s1/features"
    features.rename(tmp_path / "outside")
    features.symlink_to(tmp_path / "outside")
    assert "leads out of the data root" in str(refusal(root))


def decision(capture: str, predicted: str, final: str | None, action: str | None, **fields: Any) -> dict[str, Any]:
    """Return the row in which a partner accepts or corrects what a model predicted of a capture."""
    value = {
        "record_id": f"{capture}-ready",
        "session_id": "use",
        "modality": "gesture",
        "predicted_label": predicted,
        "final_label": final,
        "partner_action": action,
        "consent_given": True,
        "is_demo": False,
        "timestamp": "2026-03-01T11:00:00.000Z",
    } | fields
    return {key: item for key, item in value.items() if item is not None}


def session_in_use(root: Path, captures: int) -> list[dict[str, Any]]:
    """Write a training session of four captures, and a session in use whose captures nobody has labelled."""
    write_log(root, "s1", recorded_session(root, "s1", {f"t{k}": label for k, label in enumerate(LABELS.values())}))
    events = [session_start("use", is_training_data=False)]
    events += [features_ready(root, f"c{k}", "use", k) for k in range(captures)]
    write_log(root, "use", events)
    return events


def test_predictions_train_once_the_partner_accepted_or_corrected_them(tmp_path: Path) -> None:
    session_in_use(tmp_path, 6)
    rows = [
        decision("c0", "eat", "eat", "accept"),
        decision("c1", "eat", None, "accept"),  # the row need not repeat the label
        decision("c2", "eat", "drink", "correct"),
        decision("c3", "unknown", "drink", "correct"),
        decision("c4", "eat", None, None),  # nobody said anything
        decision("c5", "eat", "eat", None, label_status="unconfirmed"),  # the prediction again, confirmed by nobody
    ]
    write_final_labels(tmp_path, rows)
    dataset = load(tmp_path)
    in_use = {s.record_id: (s.label, s.example.label_status) for s in dataset.samples if s.session_id == "use"}
    assert in_use == {
        "c0-ready": ("eat", "confirmed"),
        "c1-ready": ("eat", "confirmed"),
        "c2-ready": ("drink", "corrected"),
        "c3-ready": ("drink", "corrected"),
    }
    assert {d.record_id: d.reason for d in dataset.ledger} == {"c4-ready": "no label", "c5-ready": "no label"}


def test_an_unconfirmed_prediction_does_not_replace_the_intent(tmp_path: Path) -> None:
    events = recorded_session(tmp_path, "use", LABELS)
    write_log(tmp_path, "use", events)
    write_final_labels(tmp_path, [decision("c1", "drink", "drink", None, label_status="unconfirmed")])
    assert labels_of(load(tmp_path)) == LABELS


def test_what_nobody_could_name_is_left_out_and_stops_nothing(tmp_path: Path) -> None:
    session_in_use(tmp_path, 2)
    write_final_labels(
        tmp_path, [decision("c0", "unknown", "unknown", "accept"), decision("c1", "eat", "Unknown", "correct")]
    )
    dataset = load(tmp_path)
    assert len(dataset) == 4
    assert {(d.record_id, d.reason) for d in dataset.ledger} == {
        ("c0-ready", "its label is unknown"),
        ("c1-ready", "its label is unknown"),
    }


@pytest.mark.parametrize(("hour", "trains"), [(10, True), (12, False)])  # the partner decided at 11
def test_what_was_rejected_after_it_was_confirmed_is_left_out(tmp_path: Path, hour: int, trains: bool) -> None:
    events = session_in_use(tmp_path, 1)
    rejection = event("rejection", "use", capture_id="c0", label_status="rejected")
    write_log(tmp_path, "use", [*events, rejection | {"timestamp": f"2026-03-01T{hour}:30:00.000Z"}])
    write_final_labels(tmp_path, [decision("c0", "eat", "drink", "correct")])
    dataset = load(tmp_path)
    assert [s.label for s in dataset.samples if s.session_id == "use"] == ["drink"] * trains
    assert [d.reason for d in dataset.ledger] == ["label is rejected"] * (not trains)
