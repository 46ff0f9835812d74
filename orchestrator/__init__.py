"""Plans batches, starts trainers as commands, follows them and uploads what they made."""
