"""The mathematics of scoring an encoder: folds, classifiers on features or on top of it, and their scores."""
