"""What a device allows: its ceilings, measured, and the floor they imply for a problem.

    ceilings  what was measured of one device, as data
    probe     one microbenchmark, as a worker runs it
    cpu       the probes of a CPU
    cuda      the probes of a CUDA device
    kernels   the Triton kernels that those probes launch
    rounds    samples, round by round, to ceilings
    keep      the ceilings of this user's devices, on disk
    floor     ceilings and a problem to a time that nothing can beat

`lstm-bench limits` measures; `run` takes what was kept. Only a worker imports `cpu`, `cuda` and
`kernels`.
"""
