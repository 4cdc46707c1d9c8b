"""Backbones of small blocks that do what few families do: write in place, run a part twice, nest parts."""

import torch
from torch import nn

WIDTH = 16


class Toy(nn.Module):
    """Embeddings and blocks; each block also sees a list that all of them may write to."""

    def __init__(self, block):
        super().__init__()
        self.embed = nn.Embedding(2048, WIDTH)
        self.front = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(block() for _ in range(3))
        self.behind = nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids):
        hidden = self.front(self.embed(input_ids))
        notes = []
        for layer in self.layers:
            hidden = layer(hidden, notes)
        return self.behind(hidden)


class Plain(nn.Module):
    """Three parts that run in another order than they are registered in."""

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(WIDTH, WIDTH)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.third = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden, notes):
        hidden = hidden + self.first(hidden)
        hidden = hidden + self.second(hidden.tanh())
        return hidden + self.third(hidden.tanh())


class WritesToOutputs(Plain):
    def forward(self, hidden, notes):
        out = self.first(hidden)
        out += hidden
        out = self.second(out)
        out *= hidden
        return self.third(out) + hidden


class WritesToItsInput(Plain):
    def forward(self, hidden, notes):
        hidden += self.first(hidden)
        return hidden + self.third(self.second(hidden).tanh())


class RunsTwice(Plain):
    def forward(self, hidden, notes):
        hidden = hidden + self.first(hidden)
        hidden = hidden + self.second(hidden.tanh())
        hidden = hidden + self.third(hidden.tanh())
        return hidden + self.second(hidden.tanh())


class WritingPart(nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH)

    def forward(self, hidden):
        hidden += super().forward(hidden)
        return hidden.tanh()


class PartWritesToItsInput(Plain):
    def __init__(self):
        super().__init__()
        self.first = WritingPart()

    def forward(self, hidden, notes):
        normed = hidden * 0.5
        hidden = hidden + self.first(normed)
        return hidden + self.second(normed) + self.third(hidden.tanh())


class Caller(nn.Module):
    """A part that calls another part of its block."""

    def __init__(self, other):
        super().__init__()
        self.own = nn.Linear(WIDTH, WIDTH)
        self.other = [other]

    def forward(self, hidden):
        return self.other[0](self.own(hidden).tanh())


class Nested(Plain):
    def __init__(self):
        super().__init__()
        self.first = Caller(self.second)

    def forward(self, hidden, notes):
        return hidden + self.third(self.first(hidden).tanh())


class TellsLaterBlocks(Plain):
    def forward(self, hidden, notes):
        notes.append(self.first(hidden))
        return hidden + self.third(self.second(sum(notes)).tanh())


class TorchLayer(nn.TransformerEncoderLayer):
    def __init__(self):
        super().__init__(WIDTH, 2, 2 * WIDTH, batch_first=True)

    def forward(self, hidden, notes):
        return super().forward(hidden)


TOYS = {
    toy.__name__: toy
    for toy in (
        Plain,
        WritesToOutputs,
        WritesToItsInput,
        RunsTwice,
        PartWritesToItsInput,
        Nested,
        TellsLaterBlocks,
        TorchLayer,
    )
}


def make_toy(block):
    torch.manual_seed(0)
    return Toy(block).eval()
