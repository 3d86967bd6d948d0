"""This machine's background processes: who runs them, how they are found again, how they end."""
