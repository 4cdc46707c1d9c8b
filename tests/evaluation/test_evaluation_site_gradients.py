import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sparsearch.evaluation.site_gradients import NotPerSequence, site_gradients


class Net(nn.Module):
    """Two sites; the first layer's weight is used by a second module, too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.twin, self.last = nn.Linear(4, 4), nn.Linear(4, 4), Conv1D(3, 4)
        self.twin.weight = self.first.weight
        self.requires_grad_(False)

    def forward(self, x):
        return self.last(self.twin(self.first(x).tanh()).tanh() + x)


def test_they_are_each_sequences_own_weight_gradients():
    net = Net().double()
    x = torch.randn(5, 7, 4, dtype=torch.float64)
    found = {0: torch.zeros(5, 16, dtype=torch.float64), 1: torch.zeros(5, 12, dtype=torch.float64)}
    watched = [(0, net.first), (0, net.twin), (1, net.last)]
    with site_gradients(watched, 5, torch.float64, lambda index, gradients: found[index].add_(gradients)):
        net(x).square().sum().backward()
        with torch.no_grad():
            assert not net(x).requires_grad, "nothing starts a graph where gradients are off"
    assert x.grad is None
    assert not net(x).requires_grad
    for row in range(5):
        weights = [net.first.weight.requires_grad_(), net.last.weight.requires_grad_()]
        first, last = torch.autograd.grad(net(x[row]).square().sum(), weights)
        torch.testing.assert_close(found[0][row], first.flatten())
        torch.testing.assert_close(found[1][row], last.T.flatten())


@pytest.mark.parametrize("shape", [(35, 4), (7, 5, 4)])
def test_inputs_that_mix_sequences_are_refused_in_any_forward(shape):
    net = Net()
    watching = site_gradients([(0, net.first)], 5, torch.float32, lambda index, gradients: None)
    with torch.no_grad(), watching, pytest.raises(NotPerSequence):
        net(torch.zeros(shape))
    net(torch.zeros(shape))
