"""Probes: inputs that no label can be. Every trained model is run on them, and should reject them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Inputs
from shared.features.graph import open_session
from shared.schema_utils import BACKGROUND

FITTED, REPORTED = (0, 2), 1  # seeds of the sets of probes that models are fitted on, and of the one they are tested on


MOST_BACKGROUND = 100  # pieces of background recordings that are trained on, and as many that are tested on


@dataclass(frozen=True)
class Probe:
    """One input that no label can be, and what it is, such as `white noise`; how long it was recorded, in seconds."""

    kind: str
    inputs: Inputs
    seconds: float = 0.0


def split_background(
    recordings: Sequence[Sequence[Inputs]], seconds: Callable[[Inputs], float] = lambda piece: 0.0
) -> tuple[list[Inputs], list[Probe]]:
    """Return pieces of background to train on, and others to test on; both are taken of each recording in turn.

    The pieces of one recording stay together, unless there is only one. `seconds` says how long a piece lasts.
    """
    if len(recordings) == 1:
        half = (len(recordings[0]) + 1) // 2
        recordings = [recordings[0][:half], recordings[0][half:]]
    fitted, tested = ([piece for pieces in recordings[k::2] for piece in pieces] for k in (0, 1))
    return _some(fitted), background_pieces(tested, seconds)


def background_pieces(pieces: Sequence[Inputs], seconds: Callable[[Inputs], float] = lambda piece: 0.0) -> list[Probe]:
    """Return pieces of background to test on."""
    return [Probe(BACKGROUND, piece, seconds(piece)) for piece in _some(pieces)]


def _some(pieces: Sequence[Inputs]) -> list[Inputs]:
    """Return at most MOST_BACKGROUND pieces, spread evenly."""
    count = min(len(pieces), MOST_BACKGROUND)
    return [pieces[k * len(pieces) // count] for k in range(count)]


def accepted_probes(model: bytes, probes: Sequence[Probe], threads: int = 2) -> NDArray[np.bool_]:
    """Return (n,) whether an exported model accepts each of n probes."""
    session = open_session(model)
    names = [tensor.name for tensor in session.get_inputs()]

    def accepted(probe: Probe) -> bool:
        return bool(session.run(["accepted"], {name: probe.inputs[name] for name in names})[0])

    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(accepted, probes)), np.bool_)
