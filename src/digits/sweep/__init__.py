"""Sweeps: configurations of a recipe, some seeds of each, trained side by side, those clearly losing stopped early.

Each run is one like any other, in the ledger; the sweep has a folder of its own there, under `sweeps/`, whose
sweep.json says what it is of and how far it is. All that is known of a run is read from its folder, and all that stops
it is a file in the sweep's: so it does not matter in which process, or on which machine that sees these folders, it is
trained.
"""
