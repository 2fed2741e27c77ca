"""The ranks of a training as a torch process group: averaged gradients, decisions made together."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from datetime import timedelta
from inspect import signature
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from simai_rules.components.device import GROUPS
from simai_rules.components.ranks import Ranks
from simai_rules.components.together import Together
from simai_rules.errors import UserError


class ProcessGroup:
    """The process group of `ranks`; without other ranks, everything here is done alone.

    The ranks meet by a file in `folder` (one that all of them see; by default a temporary one of rank 0's node), so
    that no port has to be agreed on; on one host gloo and nccl keep to the loopback interface. Gradients go over what
    is made for the `device`: gloo (cpu), nccl (cuda), xccl (xpu). A rank that waits for the others for longer than
    `timeout` seconds raises torch's error.
    """

    def __init__(self, ranks: Ranks, folder: Path | None, timeout: float, device: str = "cpu") -> None:
        self._together = Together(ranks.comm, timeout)
        self.alone = self._together.alone
        self._temporary: Path | None = None
        if ranks.comm is None or self.alone:
            return
        hosts = ranks.comm.allgather(ranks.host)
        if len(set(hosts)) == 1:
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
        temporary = folder is None
        if folder is None and ranks.rank == 0:
            folder = Path(tempfile.mkdtemp(prefix="simai-rules-rendezvous-"))
        # A name of its own, for a file that an earlier group has left would lead these ranks astray.
        file = ranks.comm.bcast(None if folder is None else str(folder / f"rendezvous-{secrets.token_hex(8)}"))
        self._temporary = Path(file).parent if temporary else None
        dist.init_process_group(
            GROUPS[device],
            store=dist.FileStore(file, ranks.size),
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=timedelta(seconds=timeout),
        )

    def distribute(self, net: nn.Module, device: torch.device, *, share_buffers: bool, some_unused: bool) -> nn.Module:
        """Return `net` with gradients that are averaged over the ranks, starting from rank 0's weights.

        share_buffers: rank 0's buffers, such as a batch norm's means, are those of all in each step. some_unused: not
        every weight has a gradient in each step.
        """
        if self.alone or not any(weight.requires_grad for weight in net.parameters()):
            return net
        ids = None if device.type == "cpu" else [device]
        distributed = nn.parallel.DistributedDataParallel
        # As newer versions of torch call it, which warn of the old name.
        named = "forward_sync_buffers" in signature(distributed).parameters
        buffers = {"forward_sync_buffers" if named else "broadcast_buffers": share_buffers}
        return distributed(net, device_ids=ids, find_unused_parameters=some_unused, **buffers)

    def least(self, value: int) -> int:
        """Return the least `value` of all ranks; all of them have to call it."""
        return value if self.alone else self._reduced(value, dist.ReduceOp.MIN)

    def most(self, value: int) -> int:
        """Return the greatest `value` of all ranks; all of them have to call it."""
        return value if self.alone else self._reduced(value, dist.ReduceOp.MAX)

    def _reduced(self, value: int, operation: dist.ReduceOp) -> int:
        tensor = torch.tensor([value])
        dist.all_reduce(tensor, operation)
        return int(tensor.item())

    def close(self) -> None:
        """Leave the group; it can be left more than once."""
        if not self.alone and dist.is_initialized():
            dist.destroy_process_group()
        if self._temporary is not None:
            # Were the folder removed before all have left, a store that has yet to end would look for its file for
            # minutes. Ranks that have failed do not come: then it is removed all the same.
            with suppress(UserError):
                self._together.barrier()
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
