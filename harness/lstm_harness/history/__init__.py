"""Turns many runs of one machine into series, with their changes marked."""
