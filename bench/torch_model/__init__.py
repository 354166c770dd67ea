"""The PyTorch baseline: Qwen-VL with the published key names, decoded by transformers' generate()."""
