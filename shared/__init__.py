"""What every trainer uses: data in, evaluation, export, bundles. Knows no modality."""
