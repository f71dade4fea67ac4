pytest_plugins = ("kaggle_stub",)
