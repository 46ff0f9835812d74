"""Probes: inputs that no label can be. Every trained model is run on them, and should reject them all."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Inputs
from shared.features.graph import open_session

FITTED, REPORTED = (0, 2), 1  # seeds of the sets of probes that models are fitted on, and of the one they are tested on


@dataclass(frozen=True)
class Probe:
    """One input that no label can be, and what it is, such as `white noise`."""

    kind: str
    inputs: Inputs


def accepted_probes(model: bytes, probes: Sequence[Probe], threads: int = 2) -> NDArray[np.bool_]:
    """Return (n,) whether an exported model accepts each of n probes."""
    session = open_session(model)
    names = [tensor.name for tensor in session.get_inputs()]

    def accepted(probe: Probe) -> bool:
        return bool(session.run(["accepted"], {name: probe.inputs[name] for name in names})[0])

    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(accepted, probes)), np.bool_)
