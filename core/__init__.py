"""What every stage shares: the model's geometry, one-line errors, files that are whole or absent."""
