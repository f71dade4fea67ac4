"""A kit for Kaggle's Digit Recognizer whose model is a neural network in NumPy alone."""

__version__ = "0.1.0"
