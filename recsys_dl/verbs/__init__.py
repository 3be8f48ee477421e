"""The verbs of the command: one file each, with a function of the same name that takes the composed config."""
