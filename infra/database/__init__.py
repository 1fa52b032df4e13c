"""Alerts and outbox in SQL."""
