"""Microbenchmarks, by which a device's ceilings are measured."""
