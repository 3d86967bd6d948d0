"""The control plane: owns the register of hosts, agents and messages."""
