"""The configuration: agent.toml and what overrides it -> one frozen `AgentConfig`, or one line that says what is wrong.

Open `model.py` first (the tree), then `loading.py` (where values come from). `watching.py` and `telling.py` hold the
sections, `values.py` the kinds of values, `secret.py` passwords, `certificates.py` TLS; `pages.py` writes the sample
and the documentation.
"""

from agent.config.loading import conf_d_of, default_file, load_config
from agent.config.model import AgentConfig, changed, want_restart
from agent.config.secret import read_secret, secret_path

__all__ = [
    "AgentConfig",
    "changed",
    "conf_d_of",
    "default_file",
    "load_config",
    "read_secret",
    "secret_path",
    "want_restart",
]
