"""`python -m model_registry`: the registry's commands."""

from model_registry.cli import registry

registry(prog_name="python -m model_registry")
