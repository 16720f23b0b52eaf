"""What a backend's kernels are made of, and the launch parameters they run with."""
