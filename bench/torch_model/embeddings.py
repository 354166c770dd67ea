"""What stands before the decoder: the vision tower and the token table, for engines that take prompts as embeddings."""

import torch
from torch import nn

from bench.torch_model.vision import VisionTower
from core.config import QUERIES


class PromptEmbeddings(nn.Module):
    """Submodules carry the names of the published checkpoint's keys, without `transformer.`."""

    def __init__(self, config, attention):
        super().__init__()
        self.geometry = config
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.visual = VisionTower(config.visual, attention)

    def slots(self, tokens):
        """Where the features of tokens' [B, S] images belong, as indices of embeddings [B, S, H]."""
        rows, columns = (tokens == self.geometry.image_start_id).nonzero(as_tuple=True)
        return rows[:, None], columns[:, None] + 1 + torch.arange(QUERIES, device=tokens.device)

    def forward(self, tokens, features, slots):
        """Tokens [B, S] with one image each, its features [B, QUERIES, H], its `slots` -> embeddings [B, S, H]."""
        return self.wte(tokens).index_put(slots, features.to(self.wte.weight.dtype))
