"""Query interaction: queries attend over a video's tokens (X-Pool's form); F-Pig's is its pseudo-query."""

import torch
from torch import nn


class FPigInteraction(nn.Module):
    """
    Pools a video's tokens by how well they answer a query in caption space.

    F-Pig gives it one query per video, the pseudo-query. With real queries in its place it scores pairs, as a
    single-tower model does. Query and tokens share the first layer norm, and the query is not added to the
    result: the video embedding holds only what the video shows.
    """

    def __init__(self, projection_dim: int, dropout: float) -> None:
        super().__init__()
        self.q_proj = nn.Linear(projection_dim, projection_dim)
        self.k_proj = nn.Linear(projection_dim, projection_dim)
        self.v_proj = nn.Linear(projection_dim, projection_dim)
        self.out_proj = nn.Linear(projection_dim, projection_dim)
        self.linear = nn.Linear(projection_dim, projection_dim)
        self.layer_norm1 = nn.LayerNorm(projection_dim)
        self.layer_norm2 = nn.LayerNorm(projection_dim)
        self.layer_norm3 = nn.LayerNorm(projection_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """
        `queries` [B, Q, D] over `tokens` [B, S, D] of the same videos → video features [B, Q, D].

        Raises:
            ValueError: the queries are not [B, Q, D].
        """
        if queries.ndim != 3:
            raise ValueError(
                f"`queries` has the shape {tuple(queries.shape)}; it must be [videos, queries, width]: add "
                "an axis where each video has one query"
            )
        return self.attend(queries, *self.project_tokens(tokens))

    def project_tokens(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of `tokens` [B, S, D]: all of a video that does not depend on the query."""
        tokens = self.layer_norm1(tokens)
        return self.k_proj(tokens), self.v_proj(tokens)

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """`queries` [B, Q, D], or [1, Q, D] for all videos, over keys and values → features [B, Q, D]."""
        queries = self.q_proj(self.layer_norm1(queries)).expand(len(keys), -1, -1)
        pooled = nn.functional.scaled_dot_product_attention(queries, keys, values)
        output = self.layer_norm2(self.out_proj(pooled))  # [B, Q, D]
        return self.layer_norm3(output + self.dropout(self.linear(output)))


__all__ = ["FPigInteraction"]
