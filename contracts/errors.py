"""Every error the programs raise on purpose, with the exit code it ends the process with.

The codes follow sysexits.h where it has one. `flowfeatures` stands below this package and keeps its own base
(`FlowFeaturesError`) with the same attribute; `contracts.program` treats both alike.

    PenstockError            70  our own mistake, or one without a better code
    ├── UsageError           64  an option, or a combination of options, that cannot work
    ├── ConfigError          78  a configuration file, or the environment, holds a setting that cannot work
    ├── GroundTruthError     65  a ground-truth file, or a file it names, does not say what it must
    ├── DataMissing          66  data asked for is not there
    ├── MissingExtra         69  a program was run without the optional packages it needs
    ├── ListenError          69  an address or a socket to serve on is taken, or nobody answers there
    ├── MissingTool          69  a program was run without a tool it calls
    ├── BundleError          78  this bundle cannot be run here
    │   ├── BundleUnreadable 78  missing, too large, not JSON, or a manifest of another shape
    │   ├── BundleCorrupt    78  a file is not the one whose sha256 the manifest holds
    │   ├── BundleUntrusted  78  neither the bundle this package pins nor signed by a trusted key
    │   ├── BundleOutdated   78  an older release than the one in use, and nobody rolls back
    │   └── SchemaMismatch   78  trained on other columns, windows or classes than this build computes
    ├── DeliveryError        69  alerts did not reach their reader
    │   ├── BrokerUnavailable 69  no broker answered in time; the alerts stay in the outbox
    │   ├── BrokerRefused    69  the broker answered and said no; waiting would not help
    │   └── OutboxError      74  the outbox on disk cannot be opened, read or written
    ├── OutputError          73  a file asked for on the command line cannot be created or written
    ├── LabError             71  the test network could not be built, or a tool in it failed
    └── NeedsRoot            77  network namespaces and raw sockets need root

Errors that one package alone raises stand there, under this base; docs/exit-codes.md has them all.
"""

from __future__ import annotations


class PenstockError(Exception):
    """Base of all errors raised on purpose. The message is one line, lower case, without a secret or payload."""

    exit_code = 70


class UsageError(PenstockError):
    """An option, or a combination of options, cannot work."""

    exit_code = 64


class ConfigError(PenstockError):
    """A configuration file, the environment or a secret they name holds what cannot work."""

    exit_code = 78


class GroundTruthError(PenstockError):
    """A ground-truth file, or a file it names, does not say what it must."""

    exit_code = 65


class DataMissing(PenstockError):
    """Data asked for is not there."""

    exit_code = 66


class MissingExtra(PenstockError):
    """A program was run without the optional packages it needs; the message holds the pip line."""

    exit_code = 69


class ListenError(PenstockError):
    """An address or socket to serve on cannot be had, or nobody answers there."""

    exit_code = 69


class MissingTool(PenstockError):
    """A program was run without a tool it calls; the message holds the apt line."""

    exit_code = 69


class BundleError(PenstockError):
    """This bundle cannot be run here."""

    exit_code = 78


class BundleUnreadable(BundleError):
    """The bundle is missing, too large, not JSON, or its manifest has another shape."""


class BundleCorrupt(BundleError):
    """A file of the bundle is not the one whose sha256 the manifest holds."""


class BundleUntrusted(BundleError):
    """The bundle is neither the one this package pins nor signed by a key of the trust folder."""


class BundleOutdated(BundleError):
    """The bundle is an older release than the one in use, and nobody asked to roll back."""


class SchemaMismatch(BundleError):
    """The bundle was trained on other columns, windows or classes than this build computes."""


class DeliveryError(PenstockError):
    """Alerts did not reach their reader."""

    exit_code = 69


class BrokerUnavailable(DeliveryError):
    """No broker answered in time; the alerts stay in the outbox."""


class BrokerRefused(DeliveryError):
    """The broker answered and said no; waiting would not help."""


class OutboxError(DeliveryError):
    """The outbox on disk cannot be opened, read or written. `is_ours`: waiting may help, nobody else owns the file."""

    exit_code = 74
    is_ours = True


class OutputError(PenstockError):
    """A file asked for on the command line cannot be created or written."""

    exit_code = 73


class LabError(PenstockError):
    """The test network could not be built, or a tool in it failed."""

    exit_code = 71


class NeedsRoot(PenstockError):
    """Network namespaces and raw sockets need root."""

    exit_code = 77
