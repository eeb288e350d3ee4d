"""GPT-like language models: a width and a depth, and for each block its heads and the ratio of its MLP.

Built by `supernets.models.gpt.build`. For other sizes subclass and declare the choices anew.
"""

from search_spaces.declaration import choice
from search_spaces.space import Space


class GPTSpace(Space):
    """Models of 50 thousand to a million weights, for characters and heads of 16 features."""

    width = choice(64, 96, 128)
    depth = choice(2, 3, 4)
    heads = choice(2, 4, 6, 8, per="depth")
    ratio = choice(1, 2, 3, 4, per="depth")
