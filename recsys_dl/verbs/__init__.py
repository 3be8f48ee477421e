"""What each verb of the command does with its composed config: one file a verb, with a function of the same name."""
