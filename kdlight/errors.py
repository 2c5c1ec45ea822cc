"""The one exception that means "the input is wrong, the program is not"."""


class InputError(ValueError):
    """Bad input: a file, key or value. Its message is one sentence a user can act on.

    The command line prints the message without a traceback and exits with code 2.
    """
