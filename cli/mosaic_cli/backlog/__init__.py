"""The backlog on the command line: cards as people read them, as files hold them, and the calls behind each verb."""
