"""The machine code of numba_cpu's kernels for any CPU that LLVM knows.

    python numba_cpu_code.py TRIPLE CPU FEATURES KERNELS

KERNELS is a JSON list of pass, dtype, cell and perhaps product. Prints the assembly of each, as a
JSON list.
"""

import json
import sys

import compiled_elsewhere

if __name__ == "__main__":
    *machine, asked = sys.argv[1:]
    compiled_elsewhere.compile_for(*machine)
    libraries = [compiled_elsewhere.kernel(*names)[0] for names in json.loads(asked)]
    json.dump([compiled_elsewhere.assembly_of(library) for library in libraries], sys.stdout)
