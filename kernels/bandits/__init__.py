"""Bandits: choosing arms, drawing from posteriors, chances, and updates of linear models."""
