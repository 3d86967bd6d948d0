"""The `mosaic` command: a file a noun (commands/), a function a verb."""

import os

# gRPC reads this once, as it is imported. A handshake that fails is told by the command, not by a line of gRPC's own.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
