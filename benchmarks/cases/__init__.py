"""Input of benchmarks that several of them use."""
