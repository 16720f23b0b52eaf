"""Runs from other tools, and for them."""
