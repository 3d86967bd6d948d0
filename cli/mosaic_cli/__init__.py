"""The `mosaic` command: a file a noun (commands/), a function a verb."""
