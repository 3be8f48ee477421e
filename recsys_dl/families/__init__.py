"""What a family of models shares: ranking a catalog, neighborhoods, neural training, towers, histories, growing, export."""
