"""Muon for the matrices of the blocks and AdamW for all other weights, as DeepSpeed's optimizers run it.

    optimizer = GuardedMuon(groups, matrices, lr=3e-4, betas=(0.9, 0.95), eps=1e-8)

Of `groups` the first has the key `momentum`: its weights are `matrices`, in their order. Without DeepSpeed
it is an optimizer like any other of torch.

Muon's state is the mean of the gradient, as AdamW's first moment is, under the same name: DeepSpeed then
joins it when the number of ranks changes. It is in fp32, sharded as ZeRO shards weights, and changes when
the weights do. Nesterov's look ahead of the whole matrix is orthogonalised: how ZeRO reduces gradients, or
cuts them up, has no influence. If two ranks have pieces of a matrix, both orthogonalise it, with the same
result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist

from kit.training import orthogonal
from kit.training.adamw import GuardedAdamW
from kit.training.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from kit.training.orthogonal import Matrix

_MEAN = "exp_avg"  # a name that DeepSpeed's universal checkpoints have


class GuardedMuon(GuardedAdamW):
    """An update that can be refused, of matrices by Muon and of other weights by AdamW."""

    def __init__(
        self, groups: Sequence[dict[str, Any]], matrices: Sequence[Matrix], **settings: Any
    ) -> None:
        """`settings` are those of torch.optim.AdamW."""
        super().__init__(groups, **settings)
        self._matrices = matrices
        self.with_one_moment = sum(matrix.size for matrix in matrices)
        # Known at the first update: by then DeepSpeed has cut the weights.
        self._parts: list[_Part] = []

    def moments(self, group: dict[str, Any]) -> int:
        """The number of values that the state of a group has for each weight."""
        return 1 if "momentum" in group else super().moments(group)

    @torch.no_grad()
    def _update(self, refused: Tensor | None) -> None:
        groups = self.param_groups  # one of them, if DeepSpeed updates them in turn
        # In the order of the groups: states are saved in the order in which they were made.
        for group in groups:
            if "momentum" in group:
                self._update_matrices(group, refused)
        self.param_groups = [group for group in groups if "momentum" not in group]
        super()._update(refused)
        self.param_groups = groups

    def _update_matrices(self, group: dict[str, Any], refused: Tensor | None) -> None:
        self._parts = self._parts or [*_parts(group["params"], self._matrices)]
        for weight, part in zip(group["params"], self._parts, strict=True):
            ahead = self._look_ahead(weight, part, group["momentum"], refused)
            dtype = orthogonal.working_dtype(weight.device)
            shared = part.pieces.shared(ahead, dtype)
            for piece in part.pieces.own:
                matrix = part.matrices[piece.matrix]
                whole = shared.get(piece.matrix, piece.of(ahead)).to(dtype)
                update = orthogonal.update(whole.view(matrix.rows, matrix.columns), matrix)
                own = piece.of(weight.view(-1))
                new = own * (1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * matrix.scale
                new.sub_(update.flatten()[piece.begin : piece.end], alpha=rate)
                _assign(own, new, refused)

    def _look_ahead(
        self, weight: Tensor, part: _Part, momentum: float, refused: Tensor | None
    ) -> Tensor:
        """Nesterov's look ahead of a rank's part, flat, in the memory of its gradient."""
        assert weight.grad is not None
        state = self._of_matrices(weight)
        mean, ahead = state[_MEAN].view(-1), weight.grad.reshape(-1)
        for piece in part.pieces.own:  # piece by piece: little more memory
            new = torch.lerp(piece.of(mean), piece.of(ahead), 1 - momentum)
            piece.of(ahead).lerp_(new, momentum)
            _assign(piece.of(mean), new, refused)
        state["step"] += 1 if refused is None else 1 - refused
        return ahead

    def _of_matrices(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a rank's part; torch and DeepSpeed expect a counter of updates in every state."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state[_MEAN] = torch.zeros_like(weight)
        return state


class _Part(NamedTuple):
    """What a tensor of the optimizer has of the matrices."""

    pieces: Pieces
    matrices: Sequence[Matrix]


def _parts(weights: Sequence[Tensor], matrices: Sequence[Matrix]) -> Iterator[_Part]:
    if weights[0].dim() > 1:  # without ZeRO, where every rank has them all
        yield from (_Part(Pieces([m.size], m.size, 0, 1), [m]) for m in matrices)
        return
    (flat,) = weights
    sizes = [matrix.size for matrix in matrices]
    yield _Part(Pieces(sizes, len(flat), dist.get_rank(), dist.get_world_size()), matrices)


def _assign(target: Tensor, new: Tensor, refused: Tensor | None) -> None:
    """Set values unless the update is refused, on the device: `refused` is 1 or 0."""
    target.copy_(new if refused is None else torch.where(refused.bool(), target, new))
