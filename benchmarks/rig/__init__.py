"""What benchmarks are run with: the broker, processes that tell how far they are, the page that shows the figures."""
