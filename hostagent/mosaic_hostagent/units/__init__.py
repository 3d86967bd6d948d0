"""Who starts the programs of the seats, and starts them again: systemd's user units, or the host-agent itself."""
