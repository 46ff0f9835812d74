"""Measurements on real data. Nothing here is asserted: machines differ, and figures belong in docs/results.md."""
