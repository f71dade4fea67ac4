"""Who takes part in the bench: each module here is run as a process of its own, `python -m contenders.kit`."""
