"""What City Brain is measured beside: programs for the same job, written as their libraries say, without guarantees."""
