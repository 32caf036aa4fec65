"""A stand-in for Megatron-LM's ``megatron.training``, of which no package has this version.

It has the names that the launcher binds and trains for real, with megatron.core beneath; what
Megatron-LM itself does is tested with a checkout (``BLENDLAW_MEGATRON_LM``).
"""

from megatron.training.global_vars import get_args
from megatron.training.training import pretrain

__all__ = ["get_args", "pretrain"]
