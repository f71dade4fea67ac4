"""The package as a Kaggle kernel: a notebook or script that is read, run and forked there, one of them or many."""

HOURS = 11.0  # of the 12 that a session of Kaggle's lasts; the rest is for what comes after the training
