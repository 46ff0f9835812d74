"""Trains one user's sound model from short recordings."""

import os

# numba, which librosa uses, compiles for every processor alike: the same sums everywhere, and one cache for all.
os.environ.setdefault("NUMBA_CPU_NAME", "generic")
