"""Terminals: tmux over its control mode, typing with evidence, and reading what is seen."""
