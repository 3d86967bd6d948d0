"""The checks of `mosaic doctor`: a file a subject, each a look at the machine and a pure judgement of what was seen."""
