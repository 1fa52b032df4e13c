"""The outside world to topics."""
