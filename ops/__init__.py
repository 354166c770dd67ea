"""The model's operators: what they compute (functional.py), their weights (weights.py) and their library."""
