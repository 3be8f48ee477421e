"""Interactions, vocabularies and datasets; how they are read, split, checked and weighted."""
