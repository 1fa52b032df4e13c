"""Speed and memory, printed with the machine: `make bench`. Never timed tests."""
