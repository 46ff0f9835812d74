"""`python -m shared` is `model-trainer`."""

from shared.cli import main

main()
