"""The host-agent: keeps agents running on one machine and delivers messages into them with proof."""
