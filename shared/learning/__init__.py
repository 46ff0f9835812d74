"""What is fitted on features: classifiers, calibration, rejection, and the folds that validate them."""
