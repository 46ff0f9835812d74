"""A label's own name as one more text of it: worth several transcripts where a label has few."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shared.features.arrays import unit_rows
from shared.features.graph import FeatureGraph
from shared.learning.candidates import PrecomputedFeatures, Rows
from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features
from speech_context_trainer.preprocessing.text import clean

FEW = 10  # transcripts of a label up to which its name helps; beyond, it only blurs what people really say


def label_to_text(label: str) -> str:
    """Return a label as words: `credit_cards` is "credit cards"."""
    return clean(label.replace("_", " ").replace("-", " "))


@dataclass(frozen=True)
class WithLabelNames:
    """Features of texts of `classes` (n,), and those of the labels' names (K, D), as a source for validation.

    A name joins the training rows of a label that has few, if the names say something at all: if, of the training
    rows, more lie nearest to the name of their own label than guessing explains (two standard deviations).
    """

    texts: PrecomputedFeatures
    names: Features
    classes: Classes

    @property
    def fitted(self) -> bool:
        """Return that the texts' features do not depend on the training samples; which names join them does."""
        return False

    def rows(self, train: Indices) -> Rows:
        """Return the features, with the names of the labels that have few rows in `train` as copies."""
        base, own = self.texts.computed.base, self.classes[train]
        counts = np.bincount(own, minlength=len(self.names))
        few = np.flatnonzero((counts > 0) & (counts <= FEW))
        if not len(few) or not self._informative(base[train], own):
            return self.texts.computed
        owner = np.array([train[np.argmax(own == k)] for k in few], np.int64)
        return replace(self.texts.computed, copies=self.names[few], owner=owner)

    def graph(self, train: Indices) -> FeatureGraph:
        """Return the graph of the texts' features."""
        return self.texts.traced

    def _informative(self, rows: Features, own: Classes) -> bool:
        nearest = np.argmax(unit_rows(rows) @ unit_rows(self.names).T, axis=1)
        chance = 1 / len(self.names)
        guessed, deviation = len(own) * chance, np.sqrt(len(own) * chance * (1 - chance))
        return bool(np.count_nonzero(nearest == own) > guessed + 2 * deviation)
