"""Training from samples in memory or in files: they are written as an import writes them, and trained on as always."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TextIO, overload

from model_registry.location import WritableRegistry, open_writable_registry
from model_registry.names import InvalidNameError, Modality, parse_name
from model_registry.platforms import check_platform
from model_registry.promotion import POLICIES, PromotionPolicy
from model_registry.promotion import publish as publish_bundle
from model_registry.storage.durable import temporary_folder
from model_registry.storage.encoders import copy_encoder
from model_trainer.model import Model, bundle_model
from model_trainer.samples import Sample, content_of, place_of
from shared.data.files import DataRoot
from shared.data.formats.labels import clean_labels
from shared.data.formats.raw import Content, Findings, RawSample
from shared.data.formats.walking import natural
from shared.data.import_sessions import SessionSplit, assign
from shared.data.import_writing import Mode, Origin, import_samples
from shared.data.own_layout import read_own
from shared.errors import ConfigError, DataError, Fault, TrainerError
from shared.logs import RunLog
from shared.packaging.bundle import write_bundle
from shared.prediction import Prediction
from shared.recipe import Outcome, load_recipe
from shared.trainers import Trainer, find_trainer, parse_known_modality
from shared.training import TrainingOptions, new_run_id, run_log, train_model

_MANY = 5  # faults of one kind that are each said


@dataclass(frozen=True)
class Published:
    """What a training result was published as.

    Attributes:
        version: such as v3.
        status: active, or candidate where it was not better than the active version.
        reason: why it became the active version, or did not.
    """

    version: str
    status: str
    reason: str


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained model with everything that was measured of it.

    Its files lie in a private temporary folder. They are removed by `close()` or at the end of a `with` block, and at
    the latest when nothing refers to the result any more: `save` or `publish` what is to be kept.

    Attributes:
        user_id: `_default` for a model of several people.
        modality: such as gesture.
        metrics: by name, such as accuracy: across sessions that were held out.
        verdict: good, weak or insufficient data.
        log: the training log entry.
        record_ids: what log and card call each sample, in the order of the samples.
        model: the trained model.
    """

    user_id: str
    modality: Modality
    metrics: Mapping[str, float] = field(repr=False)
    verdict: str
    log: Mapping[str, Any] = field(repr=False)
    record_ids: tuple[str, ...] = field(repr=False)
    model: Model = field(repr=False)
    _outcome: Outcome = field(kw_only=True, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary files; neither the result nor its model can be used afterwards."""
        self.model.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the model's probabilities."""
        return self.model.labels

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the training warned of."""
        return tuple(self.log["warnings"])

    @property
    def card(self) -> str:
        """The model card, a page of HTML that needs no other file."""
        return self._file("model_card").decode("utf-8")

    @property
    def model_bytes(self) -> bytes:
        """The model: one ONNX graph from decoded samples to label, probabilities and acceptance."""
        return self._file("model")

    def _file(self, role: str) -> bytes:
        self.model.require_open()
        bundle = self._outcome.bundle
        return (bundle.folder / bundle.manifest.files[role].name).read_bytes()

    @overload
    def predict(self, samples: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    @overload
    def predict(self, samples: Sample) -> Prediction: ...

    def predict(self, samples: Any) -> Prediction | list[Prediction]:
        """Classify one sample, or each sample of a list or tuple; see `Model.predict`."""
        predictions: Prediction | list[Prediction] = self.model.predict(samples)
        return predictions

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the bundle into a folder, as a trainer's `--out` does, and return the bundle's own folder.

        `load` takes what this returns, and `model-trainer registry publish` does, too. Encoders that the model needs go
        to `encoders` in the same folder, one copy for all bundles.

        Raises:
            ConfigError: where the folder cannot be written, or holds this bundle already, and after `close`.
        """
        bundle = self._outcome.bundle
        files = {role: self._file(role) for role in bundle.manifest.files}
        with _Wording(bundle.folder.parent).raising():
            for ref in bundle.manifest.encoder_refs:
                copy_encoder(bundle.folder.parent / "encoders" / ref.sha256, Path(folder) / "encoders")
            return write_bundle(Path(folder), bundle.manifest, files).folder

    def publish(
        self, registry: str | os.PathLike[str] | WritableRegistry, *, promote: PromotionPolicy = "if-better"
    ) -> Published:
        """Publish the model as the next version of its user and modality. Publishing it again changes nothing.

        Args:
            registry: a folder, the URL of a registry's service, or an opened registry.
            promote: whether it becomes the active version: "always", "never", or "if-better": unless it is worse.

        Raises:
            ConfigError: for another value of `promote`, and after `close`.
            RegistryError: where the registry refuses it or cannot be written.
        """
        self.model.require_open()
        if promote not in POLICIES:
            raise ConfigError(f"promote: {promote!r}: must be one of {', '.join(POLICIES)}")
        if isinstance(registry, str | os.PathLike):
            registry = open_writable_registry(os.fspath(registry))
        publication, promotion = publish_bundle(self._outcome.bundle.folder, registry, promote)
        return Published(publication.entry.model_version, publication.entry.status, promotion.reason)


def train(
    modality: str,
    samples: Sequence[Sample],
    labels: Sequence[str],
    *,
    sessions: Sequence[str],
    user_id: str | None = None,
    consent: bool = False,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    people: Sequence[str] | None = None,
    seed: int | None = None,
    encoding: str | None = None,
    recorded: Sequence[datetime] | None = None,
    cache: bool = True,
    progress: TextIO | None = None,
) -> TrainingResult:
    """Train one person's model of a modality, exactly as the trainer's command does: the same data give the same bytes.

    Args:
        modality: gesture, sound, speech or visual_environment.
        samples: for each sample a path (sound, image, video, features), a text (speech), or an array: frames of
            features (T, D), frames of points (T, points, axes), or a ready-made feature vector (D,). T may differ.
        labels: the label of each sample. The label "background" marks recordings that hold none of the others.
        sessions: the recording session of each sample. Samples of one session resemble each other, so the model is
            tested on sessions that it was not trained on; each label needs two, better three.
        user_id: whose model it is.
        consent: states that the person, or everyone in `people`, agreed to the training. Nothing is trained without it.
        config: a YAML file, or a mapping of the same keys; see docs/configuration.md.
        people: instead of `user_id`, the person of each sample: one default model is trained from the data of several.
        seed: overrides the configuration's seed, 0.
        encoding: names what the numbers of arrays are, such as "mediapipe_tasks_video_xy_v1"; without it
            "vector_<D>_v1". A gesture model chooses its features by it.
        recorded: when each sample was recorded, with a time zone; without it files count by their time of change.
        cache: keep computed features for the next training, by content, in the user's cache folder.
        progress: where progress is reported, such as `sys.stderr`; nowhere without it.

    Returns:
        The result: metrics, model card, log and model. Recordings are copied to a private temporary folder, which is
        removed before this returns.

    Raises:
        ConfigError: for arguments or a configuration that cannot be used.
        DataError: for samples that cannot be used, all of them at once as `samples[3]: field: reason`.
        QualityGateError: for a model that is below the configured gate.

    Example:
        >>> result = train("sound", ["hum1.wav", …], ["yes", …], sessions=["monday", …], user_id="ana", consent=True)
        >>> result.predict("hum9.wav").label
    """
    check_platform()
    trainer = find_trainer(_parsed(parse_known_modality, modality))
    users = _users(user_id, people)
    if not isinstance(config, str | os.PathLike | Mapping | None):
        raise ConfigError(f"config: must be a path or a mapping, not {type(config).__name__}")
    if not consent:
        whose = "everyone in people" if people is not None else user_id
        raise ConfigError(f"consent: nothing is trained before {whose} agreed to it; state that with consent=True")
    rows = getattr(samples, "to_numpy", lambda: samples)()  # of a data frame, whose own elements are its columns
    raw = _raw_samples(trainer, rows, labels, sessions, people, recorded)
    with ExitStack() as held, temporary_folder() as data:
        out = held.enter_context(temporary_folder())
        placed, faults = _placed(raw, user_id)
        origin = Origin(trainer.modality, consent=True, encoding=encoding)
        with _Wording(data).raising():
            summary = import_samples(data, placed, origin, Mode(), known_faults=faults)
        record_of = {sample.path: record for sample, record in zip(placed, summary.record_ids, strict=True)}
        wording = _Wording(data, users, {record: place for place, record in record_of.items()})
        options = TrainingOptions(
            users=users,
            run_id=new_run_id(),
            data=data,
            out=out,
            config=Path(config) if isinstance(config, str | os.PathLike) else config,
            seed=seed,
            cache=cache,
        )
        log = run_log(trainer, users, options.run_id, RunLog(progress or io.StringIO()))
        with wording.raising():
            outcome = train_model(trainer, load_recipe(trainer), options, log)
        return TrainingResult(
            user_id=outcome.entry.user_id,
            modality=trainer.modality,
            metrics=MappingProxyType(dict(outcome.entry.training_metrics or {})),
            verdict=outcome.entry.verdict or "",
            log=MappingProxyType(wording.value({**outcome.entry.model_dump(mode="json"), "bundle": ""})),
            record_ids=tuple(record_of[sample.path] for sample in raw),
            model=bundle_model(outcome.bundle.folder, held.pop_all()),
            _outcome=outcome,
        )


def _users(user_id: str | None, people: Sequence[str] | None) -> tuple[str, ...]:
    """Return whose data are trained on. Raises ConfigError."""
    if (user_id is None) == (people is None):
        raise ConfigError("user_id: name whose model to train, or with people the person of each sample")
    if people is not None:
        if len(set(people)) < 2:
            raise ConfigError("people: names one person; give user_id instead")
        return tuple(sorted({_parsed(parse_name, person, "people") for person in people}))
    return (_parsed(parse_name, user_id, "user_id"),)


def _parsed(parse: Any, *words: Any) -> Any:
    try:
        return parse(*words)
    except InvalidNameError as error:
        raise ConfigError(str(error)) from None


def _raw_samples(
    trainer: Trainer,
    samples: Sequence[Sample],
    labels: Sequence[str],
    sessions: Sequence[str],
    people: Sequence[str] | None,
    recorded: Sequence[datetime] | None,
) -> list[RawSample]:
    """Return the samples as an import takes them. Raises DataError with every fault in them."""
    columns = {"labels": labels, "sessions": sessions, "people": people, "recorded": recorded}
    faults = [
        Fault(name, None, "length", f"{len(column)} values for {len(samples)} samples; give one for each")
        for name, column in columns.items()
        if column is not None and len(column) != len(samples)
    ]
    if not len(samples):
        faults.append(Fault("samples", None, "length", "there is none"))
    if faults:
        raise DataError(faults)
    persons: Sequence[str | None] = [None] * len(samples) if people is None else list(people)
    times: Sequence[datetime | None] = [None] * len(samples) if recorded is None else list(recorded)
    now = datetime.now(UTC).replace(microsecond=0)
    raw: list[RawSample] = []
    rows = zip(samples, labels, sessions, persons, times, strict=True)
    for k, (sample, label, session, person, time) in enumerate(rows):
        place = place_of(sample, f"samples[{k}]", trainer)
        wrong = [
            Fault(f"{name}[{k}]", None, "type", f"must be a text, not {type(value).__name__}")
            for name, value in (("labels", label), ("sessions", session))
            if not isinstance(value, str)
        ]
        if session == "":
            wrong.append(Fault(f"sessions[{k}]", None, "value", "is empty; name the session of each sample"))
        try:
            content = content_of(sample, place, trainer)
        except DataError as error:
            faults += [*wrong, *error.faults]
            continue
        if wrong:
            faults += wrong
            continue
        raw.append(
            RawSample(
                path=place,
                line=None,
                label=str(label),
                content=content,
                user=person,
                session=str(session),
                recorded=time or _changed(sample, content, now),
            )
        )
    if faults:
        raise DataError(_of_a_kind(faults))
    return raw


def _of_a_kind(faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults, those with the same reason as one at its first place where they are many."""
    kinds: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.field, fault.reason), []).append(fault)
    kept: list[Fault] = []
    for alike in kinds.values():
        if len(alike) <= _MANY:
            kept += alike
        else:
            first = min(alike, key=lambda fault: natural(fault.path))
            kept.append(replace(first, reason=f"{first.reason} ({len(alike)} samples)"))
    return kept


def _changed(sample: Sample, content: Content, now: datetime) -> datetime:
    """Return when the file of a sample was last changed, `now` for what has none."""
    path = content if isinstance(content, Path) else sample if isinstance(sample, os.PathLike) else None
    try:
        return now if path is None else datetime.fromtimestamp(int(Path(path).stat().st_mtime), UTC)
    except OSError:
        return now  # the import says what is wrong with the file


def _placed(raw: Sequence[RawSample], user: str | None) -> tuple[list[RawSample], list[Fault]]:
    """Return the samples with clean labels and safe session ids, and what is wrong with them."""
    findings = Findings([*raw])
    clean_labels(findings)
    return assign(findings, user, SessionSplit(), None)


@dataclass(frozen=True)
class _Wording:
    """How what is said of the temporary folders reads to the caller: `samples[3]` for a line, `seed` for `--seed`."""

    data: Path
    users: tuple[str, ...] = ()
    place_of: Mapping[str, str] = field(default_factory=dict)  # record id -> samples[3]

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the block's TrainerError again in the caller's words."""
        try:
            yield
        except TrainerError as error:
            faults = _of_a_kind([self._fault(fault) for fault in error.faults])
            raise type(error)(faults or self.text(str(error))) from None

    def _fault(self, fault: Fault) -> Fault:
        path = fault.path if fault.line is None else f"{fault.path}:{fault.line}"
        place = self.text(path)
        line = fault.line if place == path else None
        name = fault.field.removeprefix("--").replace("-", "_")
        return Fault(fault.path.removeprefix("--") if place == path else place, line, name, self.text(fault.reason))

    def text(self, text: str) -> str:
        """Return a text with the places of samples instead of those of temporary files, and keys without `--set`."""
        text = text.replace("--set ", "")
        if str(self.data) not in text:
            return text
        data = re.escape(str(self.data))
        text = re.sub(data + r"\S*?\.jsonl:\d+", lambda line: self._lines.get(line.group(), line.group()), text)
        return re.sub(data + r"[^\s:,]*", "samples", text)

    @cached_property
    def _lines(self) -> dict[str, str]:
        """The line of every sample, `path:line`, with its place."""
        root = DataRoot.at(self.data)
        records = [record for user in self.users for record in read_own(root, user, None).records]
        return {f"{record.path}:{record.line}": self.place_of[record.example.record_id] for record in records}

    def value(self, value: Any) -> Any:
        """Return a JSON value with `text` applied to each text in it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(one) for one in value]
        return {key: self.value(one) for key, one in value.items()} if isinstance(value, dict) else value
