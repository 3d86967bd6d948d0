"""The control plane: owns the register of hosts, agents and messages."""

import os

# gRPC reads this once, as it is imported. It writes by itself, past `logging` and not as JSON, a line for each
# handshake that a stranger breaks: enough to fill a disk.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
