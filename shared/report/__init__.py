"""What a validation says: metrics, intervals, audit, advice, figures, training log and model card."""
