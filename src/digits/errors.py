"""What a user can mend."""


class DigitsError(Exception):
    """A problem that the user can mend; the message is one sentence that names the remedy.

    `cli.main` prints it as one line on stderr and exits with 1. Anything else that is raised is a bug and
    keeps its traceback.
    """
