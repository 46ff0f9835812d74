"""`python -m shared` is `model-trainer`."""

from shared.commands.main import main

main()
