"""The registry over HTTP: API, pages, tokens, limits, metrics."""
