"""Readers of the formats that people have: each file of this package reads one kind, `registry` chooses among them."""
