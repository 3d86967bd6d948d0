"""Links held here, liveness, the message pump and the change stream."""
