"""The networks, in two layouts of input, each giving class logits, an embedding and its attention. Needs torch.

Open `network` first (what all share), then `building` (by name), then one network's own module. Sizes and shapes stand
in `training.shapes`, which needs no torch.
"""

from training.networks.building import build, network_of
from training.networks.gru import GruNetwork
from training.networks.network import CLIP, Network
from training.shapes import LAYOUTS, NAMES, PLAIN_NAMES

__all__ = ["CLIP", "LAYOUTS", "NAMES", "PLAIN_NAMES", "GruNetwork", "Network", "build", "network_of"]
