"""Environment variables that are on or off."""

import os


def is_set(variable: str) -> bool:
    """Whether an environment variable is set to what Triton takes for yes; 1 is Numba's too."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on", "y")
