"""Measurements on real data. They assert nothing, because machines differ; docs/results.md has the figures."""
