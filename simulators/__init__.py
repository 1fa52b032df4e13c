"""A scenario to the same wire records as a real feed."""
