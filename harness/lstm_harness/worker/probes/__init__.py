"""Microbenchmarks that measure a device's ceilings."""
