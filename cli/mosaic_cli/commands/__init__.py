"""One module a noun or everyday verb; each exports `app`. Listed in main.COMMANDS, imported only when called for."""
