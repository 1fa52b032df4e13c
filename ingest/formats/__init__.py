"""One parser a feed format, pure."""
