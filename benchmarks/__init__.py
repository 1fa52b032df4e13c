"""Speed and memory beside peers, printed with the machine: `make bench`. Never timed tests.

Modules of this folder are benchmarks (`benchmarks.figure`). ``cases`` makes their input, ``rig`` runs what is measured
as processes of their own, ``peers`` is what it is measured beside.
"""
