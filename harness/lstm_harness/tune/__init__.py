"""What a backend's kernels consist of, and the launch parameters they run with."""
