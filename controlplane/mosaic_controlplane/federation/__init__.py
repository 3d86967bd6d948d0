"""Other clusters: who they are, what they may do here, and what is known here of theirs."""
