"""Frames in, Plotly figures out. Pure."""
