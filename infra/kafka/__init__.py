"""The broker: embedded child process, topics, producers, readers."""
