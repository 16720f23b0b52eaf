"""The least time that a device's measured ceilings allow."""
