"""Kernels whose programs run at once, interleaved on a CPU: races, lost signals, deadlocks.

    schedule   which program goes on: drawn from a seed, at every access to memory
    memory     what a program sees of memory, and what nothing orders; by vector clocks, in bytes
    late       relaxed stores, which nothing orders, on their way
    clocks     who knows what of whom: barriers, releases, acquires
    ptx        runs the text of inline assembly
    machine    the four together, as a kernel meets them
    on_triton  Triton's interpreter on a machine; on_numba: Numba's simulator
    defects    what is found, told so that a person can act on it
    mutants    kernels with a defect put into their source
    cases      what the tests of both backends say alike

docs/triton-proofs.md tells what the memory is a model of, and what cannot be found.
"""
