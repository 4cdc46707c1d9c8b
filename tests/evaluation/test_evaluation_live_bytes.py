import torch
from torch.nn import functional

from sparsearch.evaluation.live_bytes import LiveBytes

KIB = 1024


def test_storages_count_once_from_their_making_to_their_release():
    known = torch.ones(256)
    with LiveBytes([known]) as live:
        assert (known[1:].view(-1, 1).T.shape, live.now) == ((1, 255), 0), "views of what was known are nothing new"
        one = torch.zeros(256)
        view = one.view(16, 16).T
        assert live.now == KIB
        del one
        assert live.now == KIB
        del view
        assert (live.now, live.peak) == (0, KIB)
        (torch.zeros(256) + known).sum().item()
        assert live.now == 0
        assert 2 * KIB <= live.peak <= 2 * KIB + 64


def test_what_autograd_holds_counts_until_the_graph_is_gone():
    known = torch.ones(256, requires_grad=True)
    with LiveBytes([known]) as live:
        end = functional.silu(known * 2).sum()  # silu saves its input, the product
        assert KIB <= live.now <= KIB + 64
        end.backward()
        assert KIB <= live.now <= KIB + 64, "the gradient"
        known.grad = None
        del end
        assert live.now == 0


def test_in_place_operations_make_nothing():
    with LiveBytes([]) as live:
        x = torch.zeros(256)
        x.add_(1)
        torch.add(x, 1, out=x)
        assert live.now == live.peak == KIB
