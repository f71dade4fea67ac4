"""Kaggle: the only package that knows it.

Credentials, requests and answers are those of the real `kaggle` package. What it lacks is added here: a limit
on the time of every call, calls that only read made again when they fail, an upload that arrives exactly
once, a download that is checked and resumed, and one sentence with the remedy for each way to fail.
"""

COMPETITION = "digit-recognizer"
PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
RULES = f"{PAGE}/rules"
SETTINGS = "https://www.kaggle.com/settings"
KERNELS = "https://www.kaggle.com/code"
