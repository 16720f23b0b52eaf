"""The race: spec -> plan -> measure -> store -> analyse -> report."""

__version__ = "0.1.0"
