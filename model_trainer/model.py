"""A trained model in a program: loaded from a registry, a bundle or a portable file, and run on samples."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, overload

from model_registry.folders import configured_signatures
from model_registry.location import ReadableRegistry, is_url, open_registry
from model_registry.names import Modality, parse_modality
from model_registry.platforms import check_platform
from model_registry.storage.encoders import EncoderError, read_encoder
from model_registry.storage.entry import BundleManifest
from model_registry.storage.publication import read_bundle
from model_trainer.samples import Sample, as_file, place_of
from shared.errors import ConfigError, DataError, Fault, TrainerError
from shared.prediction import LiveModel, Prediction, portable_model, published_model
from shared.recipe import Recipe, load_recipe
from shared.trainers import Trainer, find_trainer


@dataclass
class Files:
    """What was copied to run a model, until it is closed."""

    stack: ExitStack
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        self.stack.close()


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model that is ready to classify.

    What was copied here to run it (from a service, or by `train`) is removed when the model is closed, by `close()` or
    at the end of a `with` block, and at the latest when nothing refers to it any more.

    Attributes:
        user_id: the requested user; None for a portable file.
        modality: such as gesture.
        labels: in the order of the model's probabilities; `unknown` is never one.
        version: such as v3; None where it is in no registry.
        fallback: whether it is the pooled model, which stands in for one of the user's own.
        rejection_threshold: scores below it are `unknown`; None for a portable file.
        properties: how it decodes and what it expects.
    """

    user_id: str | None
    modality: Modality
    labels: tuple[str, ...]
    version: str | None = None
    fallback: bool = False
    rejection_threshold: float | None = None
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _live: LiveModel = field(kw_only=True, repr=False)
    _files: Files = field(kw_only=True, repr=False)
    _trainer: Trainer = field(kw_only=True, repr=False)
    _recipe: Recipe = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, self._files.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was copied here to run the model; it cannot be used afterwards."""
        self._files.close()

    def require_open(self) -> None:
        """Raise ConfigError for a model that was closed."""
        if self._files.closed:
            raise ConfigError(f"the {self.modality} model of {self.user_id or 'a file'} was closed; load it again")

    @property
    def set_threshold(self) -> float | None:
        """The probability from which on a label is in `Prediction.label_set`; None for a model of an early release."""
        threshold: float | None = self.properties.get("set_threshold")
        return threshold

    @overload
    def predict(self, samples: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    @overload
    def predict(self, samples: Sample) -> Prediction: ...

    def predict(self, samples: Any) -> Prediction | list[Prediction]:
        """Classify one sample, or each sample of a list or tuple.

        Args:
            samples: a sample is a path, a text (in a modality of texts), or an array: a feature vector (D,) or frames
                of features (T, D). An array is always one sample; the rows of a matrix are `list(matrix)`.

        Returns:
            The prediction, or a list with one for each sample. A sample that holds nothing to classify, such as
            silence, is `unknown`, with a reason.

        Raises:
            DataError: for a sample that cannot be used, such as one of another width.
            ConfigError: for a model that was closed.

        Example:
            >>> model.predict("hum.wav").label
            'yes'
        """
        self.require_open()
        if isinstance(samples, list | tuple):
            return [self._predict(sample, f"samples[{k}]") for k, sample in enumerate(samples)]
        return self._predict(samples, "sample")

    def _predict(self, sample: Sample, name: str) -> Prediction:
        place = place_of(sample, name, self._trainer)
        with as_file(sample, place, self._trainer) as path:
            try:
                return self._live.predict(path, self._recipe)
            except DataError as error:
                reasons = [(fault.field, fault.reason) for fault in error.faults] or [("(file)", str(error))]
            except OSError as error:
                reasons = [("(file)", (error.strerror or str(error)).lower())]
        raise DataError([Fault(place, None, field_name, reason) for field_name, reason in reasons])


def load(
    source: str | os.PathLike[str] | ReadableRegistry,
    *,
    user_id: str | None = None,
    modality: str | None = None,
    version: str | int | None = None,
) -> Model:
    """Load a trained model. Its hashes, and its signature where one is required, are checked first.

    Args:
        source: a registry (folder, URL or opened registry), a bundle's folder that `TrainingResult.save` or a trainer's
            `--out` made, or a portable file that `model-trainer registry export` wrote.
        user_id: whose model, from a registry.
        modality: of which modality, from a registry.
        version: such as "v3" or 3; without it the active version.

    Returns:
        The model; from a registry the pooled one, with `fallback`, where the user has none with enough data.

    Raises:
        ConfigError: for a source that holds no model, or that cannot be used in this way.
        RegistryError: where the registry has no such version, or it is damaged or not signed as required.

    Example:
        >>> with load("models", user_id="ana", modality="sound") as model:
        ...     model.predict(["hum.wav", "click.wav"])
    """
    check_platform()
    if isinstance(source, str | os.PathLike):
        address = os.fspath(source)
        path = Path(address)
        is_bundle = not is_url(address) and (path / "bundle.json").is_file()
        if is_bundle or (not is_url(address) and path.is_file()):
            if any(value is not None for value in (user_id, modality, version)):
                raise ConfigError(f"{path}: is one model; leave out user_id, modality and version")
            if configured_signatures().required:
                raise ConfigError(f"{path}: carries no signature; load the version from a registry")
            return bundle_model(path) if is_bundle else _portable(path)
        if not is_url(address) and not path.is_dir():
            raise ConfigError(f"{path}: is not there; name a registry, a bundle's folder or a portable file")
        source = open_registry(address)
    if user_id is None or modality is None:
        raise ConfigError(f"{source.address}: is a registry; name user_id and modality")
    return _from_registry(source, user_id, parse_modality(modality), version)


def _from_registry(registry: ReadableRegistry, user: str, modality: Modality, version: str | int | None) -> Model:
    with ExitStack() as stack:
        resolved = stack.enter_context(registry.open_version(user, modality, version))
        return _opened(
            published_model(resolved),
            user,
            modality,
            stack,
            version=f"v{resolved.version}",
            fallback=resolved.fallback,
            rejection_threshold=resolved.entry.rejection_threshold,
        )


def _portable(path: Path) -> Model:
    live = portable_model(path)
    return _opened(live, None, live.properties["spec"]["modality"], ExitStack())


def bundle_model(folder: Path, held: ExitStack | None = None) -> Model:
    """Return the model of a bundle; `held` is closed with it. Raises RegistryError or ConfigError for a damaged one."""
    manifest = read_bundle(folder)
    with held or ExitStack() as stack:
        live = LiveModel(
            folder / manifest.files["model"].name, _encoders(folder, manifest), manifest.files["model"].sha256
        )
        threshold = manifest.entry.rejection_threshold
        return _opened(live, manifest.user_id, manifest.modality, stack, rejection_threshold=threshold)


def _encoders(bundle: Path, manifest: BundleManifest) -> dict[str, Path]:
    """Return the folders of the encoders that a bundle refers to. Raises ConfigError where one is another network."""
    folders = {ref.name: bundle.parent / "encoders" / ref.sha256 for ref in manifest.encoder_refs}
    for ref in manifest.encoder_refs:
        try:
            sha256 = read_encoder(folders[ref.name]).sha256
        except EncoderError as error:
            raise ConfigError(f"{error}; the encoders lie in the folder encoders next to the bundle") from None
        if sha256 != ref.sha256:
            raise ConfigError(f"{folders[ref.name]}: holds another network than the bundle names")
    return folders


def _opened(live: LiveModel, user: str | None, modality: Modality, stack: ExitStack, **described: Any) -> Model:
    """Return the model, opened: what is wrong with it or with its encoders is raised now, not at the first sample."""
    from shared.features.encoders import load_encoder

    trainer = find_trainer(modality)
    try:
        properties = live.properties
        for folder in live.encoders.values():
            load_encoder(folder.resolve())
    except TrainerError as error:
        raise ConfigError(f"{live.model}: {error}") from None
    return Model(
        user_id=user,
        modality=modality,
        labels=tuple(properties["labels"]),
        properties=MappingProxyType(properties["spec"]),
        _live=live,
        _files=Files(stack.pop_all()),
        _trainer=trainer,
        _recipe=load_recipe(trainer),
        **described,
    )
