"""The vocabulary: units, records, topics, network, indices, clock, settings, metrics, errors. Pure."""

__version__ = "0.1.0"
