"""Vision encoder and resampler; submodules carry the names of the published checkpoint's keys."""

import torch
import torch.nn.functional as F
from torch import nn

from bench.torch_model.attention import attend
from core.config import QUERIES

EPS = 1e-6


def resize_position_table(table, grid):
    """[n*n, E] -> [grid*grid, E], bicubic as the published code does it (fp32, align_corners=False)."""
    source = int(table.shape[0] ** 0.5)
    if source == grid:
        return table
    image = table.float().view(1, source, source, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)


class VisionAttention(nn.Module):
    """Self-attention whose in_proj rows are q k v of head 0, then of head 1, and so on."""

    def __init__(self, visual, attention):
        super().__init__()
        self.heads, self.attention = visual.heads, attention
        self.in_proj = nn.Linear(visual.width, 3 * visual.width)
        self.out_proj = nn.Linear(visual.width, visual.width)

    def forward(self, x):
        q, k, v = self.in_proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, dim=-1)
        return self.out_proj(attend(self.attention, q, k, v).transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    def __init__(self, visual):
        super().__init__()
        self.c_fc = nn.Linear(visual.width, visual.mlp_width)
        self.c_proj = nn.Linear(visual.mlp_width, visual.width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class VisionBlock(nn.Module):
    def __init__(self, visual, attention):
        super().__init__()
        self.ln_1 = nn.LayerNorm(visual.width, eps=EPS)
        self.ln_2 = nn.LayerNorm(visual.width, eps=EPS)
        self.attn = VisionAttention(visual, attention)
        self.mlp = VisionMLP(visual)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class VisionBlocks(nn.Module):
    def __init__(self, visual, attention):
        super().__init__()
        self.resblocks = nn.ModuleList(VisionBlock(visual, attention) for _ in range(visual.layers))

    def forward(self, x):
        for block in self.resblocks:
            x = block(x)
        return x


class Resampler(nn.Module):
    """One cross-attention of QUERIES learned queries over all patches: [N, patches, W] -> [N, QUERIES, E]."""

    def __init__(self, visual, attention):
        super().__init__()
        width = visual.output_dim
        self.grid, self.explicit = visual.grid, attention == "eager"
        self.query = nn.Parameter(torch.empty(QUERIES, width))
        self.pos_embed = nn.Parameter(torch.empty(QUERIES, width))
        self.kv_proj = nn.Linear(visual.width, width, bias=False) if visual.width != width else nn.Identity()
        self.ln_q = nn.LayerNorm(width, eps=EPS)
        self.ln_kv = nn.LayerNorm(width, eps=EPS)
        self.attn = nn.MultiheadAttention(width, visual.resampler_heads, batch_first=True)
        self.register_buffer("key_position", None, persistent=False)

    def fold(self):
        self.key_position = resize_position_table(self.pos_embed.detach(), self.grid)

    def forward(self, x):
        kv = self.ln_kv(self.kv_proj(x))
        q = (self.ln_q(self.query) + self.pos_embed).expand(x.shape[0], -1, -1)
        return self.attn(q, kv + self.key_position, kv, need_weights=self.explicit, average_attn_weights=False)[0]


class VisionTower(nn.Module):
    """pixels [N, 3, S, S], normalised -> image features [N, QUERIES, output_dim].

    `fold()` must run once the weights are in: it resizes the position tables, which no image changes.
    """

    def __init__(self, visual, attention):
        super().__init__()
        self.grid = visual.grid
        self.conv1 = nn.Conv2d(3, visual.width, visual.patch_size, stride=visual.patch_size, bias=False)
        # The checkpoint's own table is 16 x 16 whatever the image size; QUERIES counts the same cells.
        self.positional_embedding = nn.Parameter(torch.empty(QUERIES, visual.width))
        self.ln_pre = nn.LayerNorm(visual.width, eps=EPS)
        self.transformer = VisionBlocks(visual, attention)
        self.attn_pool = Resampler(visual, attention)
        self.ln_post = nn.LayerNorm(visual.output_dim, eps=EPS)
        self.proj = nn.Parameter(torch.empty(visual.output_dim, visual.output_dim))
        self.register_buffer("position", None, persistent=False)

    def fold(self):
        self.position = resize_position_table(self.positional_embedding.detach(), self.grid)
        self.attn_pool.fold()

    def forward(self, pixels):
        x = self.conv1(pixels.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        x = self.transformer(self.ln_pre(x + self.position))
        return self.ln_post(self.attn_pool(x)) @ self.proj
