"""The child process, the only one that touches a device; no other package imports it."""
