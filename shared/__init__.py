"""What every trainer uses: data in, evaluation, export, bundles. Knows no modality."""

import os

# One thread a computation, several computations side by side: sums in a fixed order give the same bytes on any number
# of cores, and threads of OpenMP do not wait for each other. Read when the libraries are loaded, which is later.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
