"""The backlog: cards made, linked, claimed exactly once, completed, taken back."""
