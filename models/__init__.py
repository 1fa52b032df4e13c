"""Arrays and frames in, arrays and frames out: no I/O, no clock."""
