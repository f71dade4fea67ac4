"""The package as a Kaggle kernel: a notebook or script that is read, run and forked there, one of them or many."""
