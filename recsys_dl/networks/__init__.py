"""nn.Modules that models and rankers share: encoders of features and histories, self-attention, networks over lists."""
