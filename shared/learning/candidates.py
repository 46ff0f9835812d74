"""Candidates: feature sets with a classifier, as a configuration names them and as validation compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field

from shared.features.graph import FeatureGraph, joined
from shared.learning.classifiers import Classifier, ClassifierConfig
from shared.learning.familiarity import Familiarity, FitFamiliarity
from shared.learning.folds import Indices
from shared.learning.heads import (
    Classes,
    Features,
    FitOnSubset,
    Fitter,
    Head,
    Linear,
    fit_classifier,
    gram_factor,
    subset_fitter,
)
from shared.schema_utils import Schema

FeatureName = TypeVar("FeatureName", bound=str)


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class CandidateConfig(Schema, Generic[FeatureName]):
    """A candidate as the configuration has it: `features`, one name or several that are joined, and a classifier."""

    features: Annotated[tuple[FeatureName, ...], Field(min_length=1), BeforeValidator(_several)] | None = Field(
        default=None, description="a feature set, or several that are joined; null: each that suits the data"
    )
    classifier: Classifier


def candidate_name(config: CandidateConfig[Any]) -> str:
    """Return the name of a candidate in the training log."""
    return f"{'+'.join(config.features or ())}: {config.classifier.text()}"


Auto = Literal["auto"]  # in place of a list of candidates: what suits the data


def resolve_candidates(
    configured: Auto | Sequence[CandidateConfig[FeatureName]], suitable: Sequence[CandidateConfig[FeatureName]]
) -> list[CandidateConfig[FeatureName]]:
    """Return the candidates to compare: those `suitable` for "auto", else the configured ones.

    One that names no features stands for one with each of the feature sets that are suitable.
    """
    if configured == "auto":
        return list(suitable)
    found = []
    for config in configured:
        if config.features is not None:
            found.append(config)
        else:
            each = dict.fromkeys(candidate.features for candidate in suitable)
            found += [config.model_copy(update={"features": features}) for features in each]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Rows:
    """Features of every sample (n, D), and of copies (m, D) that may join the training rows of their owner (m,).

    `background` (b, D) are features of inputs that no label can be.
    """

    base: Features
    copies: Features
    owner: Indices
    background: Features | None = None

    def training(self, train: Indices, classes: Classes) -> tuple[Features, Classes]:
        """Return the features and classes of samples `train`, followed by those of their copies."""
        own = np.flatnonzero(np.isin(self.owner, train))
        if not len(own):
            return self.base[train], classes[train]
        rows = np.concatenate([self.base[train], self.copies[own]])
        return rows, np.concatenate([classes[train], classes[self.owner[own]]])


class FeatureSource(Protocol):
    """Where a candidate's features come from; what is fitted in them is fitted on `train` alone."""

    @property
    def fitted(self) -> bool:
        """Whether the features of the samples depend on `train`."""
        ...

    def rows(self, train: Indices) -> Rows: ...

    def graph(self, train: Indices) -> FeatureGraph: ...


@dataclass(frozen=True)
class PrecomputedFeatures:
    """Features without anything fitted: computed once, the same in every fold."""

    traced: FeatureGraph
    computed: Rows

    @property
    def fitted(self) -> bool:
        return False

    def rows(self, train: Indices) -> Rows:
        return self.computed

    def graph(self, train: Indices) -> FeatureGraph:
        return self.traced


@dataclass(frozen=True)
class JoinedFeatures:
    """The features of several sources, one after another."""

    name: str
    sources: tuple[FeatureSource, ...]

    @property
    def fitted(self) -> bool:
        return any(source.fitted for source in self.sources)

    def rows(self, train: Indices) -> Rows:
        return _joined_rows([source.rows(train) for source in self.sources])

    def graph(self, train: Indices) -> FeatureGraph:
        return joined(self.name, [source.graph(train) for source in self.sources])


def concat_features(name: str, sources: Sequence[FeatureSource]) -> FeatureSource:
    """Return the features of all sources, one after another, and the graph `name` that computes them."""
    if len(sources) == 1:
        return sources[0]
    ready = [source for source in sources if isinstance(source, PrecomputedFeatures)]
    if len(ready) < len(sources):
        return JoinedFeatures(name, tuple(sources))
    return PrecomputedFeatures(
        joined(name, [source.traced for source in ready]), _joined_rows([source.computed for source in ready])
    )


def _joined_rows(blocks: Sequence[Rows]) -> Rows:
    base = np.concatenate([rows.base for rows in blocks], axis=1)
    known = [rows.background for rows in blocks if rows.background is not None]
    background = np.concatenate(known, axis=1) if len(known) == len(blocks) else None
    if any(len(rows.copies) != len(blocks[0].copies) for rows in blocks):  # copies have all features or none
        return Rows(base, np.zeros((0, base.shape[1]), np.float32), np.zeros(0, np.int64), background)
    return Rows(base, np.concatenate([rows.copies for rows in blocks], axis=1), blocks[0].owner, background)


def without_copies(source: FeatureSource) -> FeatureSource:
    """Return the source with no copies of any sample; one that has none is returned as it is."""
    if not isinstance(source, PrecomputedFeatures):
        return source
    rows = source.computed
    return PrecomputedFeatures(source.traced, replace(rows, copies=rows.copies[:0], owner=rows.owner[:0]))


@dataclass(frozen=True)
class Candidate:
    """One way from samples to logits and familiarity. Candidates are listed preferred first."""

    name: str
    source: FeatureSource
    fit: Fitter
    fit_familiarity: FitFamiliarity
    score_weights: tuple[float, float] = (1.0, 1.0)  # of the largest logit and of the familiarity
    isotropic: bool = False  # classifier and familiarity treat all directions alike: validation may change the axes
    features: tuple[str, ...] = ()
    classifier: ClassifierConfig | None = None
    configured: Mapping[str, Any] | None = None  # what names it among a configuration's `candidates`
    fit_on_subset: FitOnSubset | None = None  # fits as `fit` does, faster, where no copies join the training rows

    @property
    def spread_share(self) -> float | None:
        """The share of its logits' spread that is their usual temperature; None: that is 1."""
        return None if self.classifier is None else self.classifier.spread_share


@dataclass(frozen=True)
class FittedModel:
    """A candidate fitted on some samples."""

    head: Head
    familiarity: Familiarity

    def __call__(self, features: Features) -> tuple[Features, Features]:
        """(n, D) -> logits (n, K), familiarity (n,)."""
        return np.asarray(self.head(features)), np.asarray(self.familiarity(features))


def build_candidates(
    configs: Sequence[CandidateConfig[FeatureName]],
    source_of: Callable[[FeatureName], FeatureSource],
    familiarity_for: Callable[[tuple[FeatureName, ...]], FitFamiliarity],
    seed: int,
    *,
    modality: str,
    isotropic_familiarity: bool = False,
    complete: Callable[[tuple[FeatureName, ...], FeatureSource], FeatureSource] = lambda _, source: source,
) -> list[Candidate]:
    """Return the candidates with their features computed; each feature set is computed once.

    `complete` may add to a candidate's joined features what depends on all of them. Where a source has altered copies
    of samples, each candidate is compared without and with them, so that they stay only if they help.
    """
    known = cache(source_of)
    plain, with_copies = [], []
    for config in configs:
        names = config.features or ()
        source = complete(names, concat_features(f"{modality}-{'+'.join(names)}", [known(name) for name in names]))
        candidate = Candidate(
            name=candidate_name(config),
            source=without_copies(source),
            fit=partial(fit_classifier, config.classifier, seed=seed),
            fit_familiarity=familiarity_for(names),
            isotropic=isotropic_familiarity and config.classifier.isotropic,
            features=names,
            classifier=config.classifier,
            configured=config.model_dump(mode="json"),
        )
        plain.append(candidate)
        if isinstance(source, PrecomputedFeatures) and len(source.computed.copies):
            with_copies.append(replace(candidate, name=f"{candidate.name}, with copies", source=source))
    return plain + with_copies


def fit_candidate(candidate: Candidate, classes: Classes, train: Indices, count: int) -> FittedModel:
    """Fit classifier and familiarity on the samples `train`."""
    head = fit_head(candidate, classes, train, count)
    return FittedModel(head, fit_familiarity(candidate, head, classes, train))


def fit_familiarity(candidate: Candidate, head: Head, classes: Classes, train: Indices) -> Familiarity:
    """Fit the familiarity that goes with a `head` on the samples `train`; copies are no references."""
    rows = candidate.source.rows(train)
    return candidate.fit_familiarity(head, rows.base[train], classes[train], rows.background)


def fit_head(candidate: Candidate, classes: Classes, train: Indices, count: int) -> Head:
    """Fit the classifier alone on the samples `train`."""
    rows = candidate.source.rows(train)
    if not len(train):  # so few samples that the inner folds leave none: every class is as likely
        return Linear(np.zeros((rows.base.shape[1], count), np.float32), np.zeros(count, np.float32))
    if candidate.fit_on_subset is not None and not len(rows.copies):
        return candidate.fit_on_subset(train, classes[train], count)
    features, labels = rows.training(train, classes)
    return candidate.fit(features, labels, count)


def prepared_for_folds(candidate: Candidate, everything: Indices) -> Candidate:
    """Return the candidate ready for many fits: what they share is computed once.

    Features move to axes of the samples' span, where those are fewer: inner products stay what they are, so classifiers
    that only see those learn the same with far fewer numbers.
    """
    source = candidate.source
    if candidate.fit_on_subset is not None:
        return candidate  # prepared before
    if candidate.classifier is not None and not source.fitted:
        fit_on_subset = subset_fitter(candidate.classifier, source.rows(everything).base)
        if fit_on_subset is not None:
            return replace(candidate, fit_on_subset=fit_on_subset)
    if not candidate.isotropic or not isinstance(source, PrecomputedFeatures):
        return candidate
    rows = source.computed
    background = rows.base[:0] if rows.background is None else rows.background
    whole = np.concatenate([rows.base, rows.copies, background])
    if whole.shape[1] <= len(whole):
        return candidate
    base, copies, around = np.split(gram_factor(whole), np.cumsum([len(rows.base), len(rows.copies)]))
    computed = replace(rows, base=base, copies=copies, background=None if rows.background is None else around)
    return replace(candidate, source=PrecomputedFeatures(source.traced, computed))
