"""Interactions, vocabularies and datasets; how they are split, checked, weighted and encoded."""
