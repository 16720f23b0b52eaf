"""The contestants: one module a backend, none importing another."""
