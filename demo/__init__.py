"""Demo data: three fictional people, four modalities, three sessions each. Not installed."""
