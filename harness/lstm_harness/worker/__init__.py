"""The child process, the only one that touches a device; nobody imports it."""
