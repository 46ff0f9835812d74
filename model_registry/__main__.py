"""`python -m model_registry`: the registry's commands."""

from model_registry.commands.main import registry

registry(prog_name="python -m model_registry")
