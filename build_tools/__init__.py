"""What makes the pretrained networks at set-up. Not installed."""
