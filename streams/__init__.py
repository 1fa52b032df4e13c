"""Topics to topics and sinks: one module a stage."""
