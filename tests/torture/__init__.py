"""Torture: the shipped programs in processes of their own, faults at random times, and a judge that knows the truth."""
