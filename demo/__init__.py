"""Demo data: three made-up people, four modalities, three sessions each. Not installed."""
