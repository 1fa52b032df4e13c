"""Adapters to what City Brain runs on."""
