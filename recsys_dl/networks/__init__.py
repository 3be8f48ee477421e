"""nn.Modules that models and rankers share: feature and history encoders, self-attention, ranker networks."""
