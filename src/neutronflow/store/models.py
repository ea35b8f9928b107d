"""The schema of the workflow database.

Manager and listener write these tables through named SQL (``store/queries``); the monitor reads them through these models.
A run's state is the listener's until its first cycle begins, then the manager's alone. Times are aware, set by the database
where rows are written by SQL. Foreign keys whose column leads another index have none of their own: every index is paid for
with each message.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from neutronflow.domain.workflow.states import RunState, StepName, StepState


def _choices(words: type[RunState] | type[StepName] | type[StepState]) -> list[tuple[str, str]]:
    return [(word.value, word.value.replace("_", " ")) for word in words]


class User(AbstractUser):
    """A person, or a service account of the monitor's API."""

    class Meta(AbstractUser.Meta):
        db_table = "person"


class LoginLink(models.Model):
    """A link that logs one person in, once. Only a hash of its token is kept."""

    token_sha256 = models.BinaryField(max_length=32, unique=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "login_link"


class Instrument(models.Model):
    """An instrument of a facility; names are upper case."""

    facility = models.CharField(max_length=64)
    name = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "instrument"
        constraints: ClassVar = [models.UniqueConstraint(fields=["facility", "name"], name="instrument_once")]

    def __str__(self) -> str:
        return f"{self.facility}/{self.name}"


class Experiment(models.Model):
    """An experiment (proposal) of a facility, such as IPTS-12345."""

    facility = models.CharField(max_length=64)
    name = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "experiment"
        constraints: ClassVar = [models.UniqueConstraint(fields=["facility", "name"], name="experiment_once")]

    def __str__(self) -> str:
        return self.name


class Run(models.Model):
    """A run, unique by instrument (and so by facility) and number."""

    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="runs", db_index=False)
    run_number = models.BigIntegerField()
    experiment = models.ForeignKey(Experiment, on_delete=models.PROTECT, null=True, related_name="runs", db_index=False)
    data_file = models.TextField(db_default="")
    #: How often POSTPROCESS.DATA_READY was accepted; each starts all steps anew.
    cycle = models.IntegerField(db_default=0)
    state = models.CharField(max_length=16, choices=_choices(RunState))
    #: Whether a simulated beamline has made it.
    simulated = models.BooleanField(db_default=False)
    state_since = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "run"
        constraints: ClassVar = [models.UniqueConstraint(fields=["instrument", "run_number"], name="run_once")]
        indexes: ClassVar = [
            models.Index(fields=["instrument", "-created_at", "-id"], name="run_newest_of_instrument"),
            models.Index(fields=["experiment", "-run_number"], name="run_of_experiment"),
        ]


class Step(models.Model):
    """One attempt of one step of a run; the attempt with the highest number is the current one."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps", db_index=False)
    name = models.CharField(max_length=32, choices=_choices(StepName))
    attempt = models.IntegerField()
    cycle = models.IntegerField()
    state = models.CharField(max_length=16, choices=_choices(StepState))
    state_since = models.DateTimeField(db_default=Now())
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    agent = models.CharField(max_length=255, db_default="")
    error = models.TextField(db_default="")
    information = models.TextField(db_default="")

    class Meta:
        db_table = "step"
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "name", "attempt"], name="step_attempt_once")]


class Event(models.Model):
    """One message about a run, as received, and whether it changed anything: the run's story."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    received_at = models.DateTimeField(db_default=Now())
    destination = models.CharField(max_length=255)
    message_id = models.CharField(max_length=255, db_default="")
    nf_id = models.CharField(max_length=64, db_default="")
    attempt = models.IntegerField(null=True)
    applied = models.BooleanField()
    #: Why it was not applied, or what it did, in a few words.
    outcome = models.CharField(max_length=255, db_default="")
    information = models.TextField(db_default="")
    error = models.TextField(db_default="")

    class Meta:
        db_table = "event"
        indexes: ClassVar = [models.Index(fields=["run", "id"], name="event_of_run")]


class SeenMessage(models.Model):
    """Deduplication keys of messages whose effect is committed (decision 4). Pruned."""

    key = models.CharField(max_length=320, primary_key=True)
    seen_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        db_table = "seen_message"


class Outbox(models.Model):
    """Commands whose cause is committed and which are not yet published with a receipt."""

    destination = models.CharField(max_length=255)
    nf_id = models.CharField(max_length=64, unique=True)
    body = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "outbox"


class DeadLetter(models.Model):
    """A message that could not be understood or applied, kept whole, with the reason."""

    received_at = models.DateTimeField(db_default=Now(), db_index=True)
    #: The service that could not understand it.
    source = models.CharField(max_length=64)
    destination = models.CharField(max_length=255)
    reason = models.TextField()
    headers = models.JSONField(db_default={})
    body = models.BinaryField()

    class Meta:
        db_table = "dead_letter"


class JobReport(models.Model):
    """What an agent told of one attempt of a step: times, exit code, files, resources."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="job_reports", db_index=False)
    step = models.CharField(max_length=32)
    attempt = models.IntegerField(null=True)
    agent = models.CharField(max_length=255)
    received_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    exit_code = models.IntegerField(null=True)
    cpu_s = models.FloatField(null=True)
    max_rss_bytes = models.BigIntegerField(null=True)
    log = models.TextField(db_default="")
    log_truncated = models.BooleanField(db_default=False)
    #: List of {path, size, kind}.
    files = models.JSONField(db_default=[])

    class Meta:
        db_table = "job_report"
        indexes: ClassVar = [models.Index(fields=["run", "step", "-id"], name="job_report_of_step")]


class ServiceStatus(models.Model):
    """The last heartbeat of each process that sends any (manager, agents, and the processes of each instrument)."""

    name = models.CharField(max_length=255)
    #: Of which instrument it is; empty for the services of all.
    facility = models.CharField(max_length=64, db_default="")
    instrument = models.CharField(max_length=64, db_default="")
    pid = models.CharField(max_length=32, db_default="")
    role = models.CharField(max_length=32, db_default="")
    status = models.CharField(max_length=255, db_default="")
    last_seen = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "service_status"
        constraints: ClassVar = [models.UniqueConstraint(fields=["name"], name="service_status_once")]


class Change(models.Model):
    """What open pages are told. Ids are given under a lock that is held until commit, so readers see them in order."""

    at = models.DateTimeField(db_default=Now(), db_index=True)
    #: ``run``, ``instrument`` or ``service``.
    kind = models.CharField(max_length=16)
    facility = models.CharField(max_length=64, db_default="")
    instrument = models.CharField(max_length=64, db_default="")
    run_number = models.BigIntegerField(null=True)

    class Meta:
        db_table = "change"


class StatusValue(models.Model):
    """The newest value of a key that an instrument's dasmon tells: counts, charge, what is being recorded."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="values", db_index=False)
    key = models.CharField(max_length=128)
    value = models.CharField(max_length=128)
    at = models.DateTimeField()

    class Meta:
        db_table = "status_value"
        constraints: ClassVar = [models.UniqueConstraint(fields=["instrument", "key"], name="status_value_once")]


class StatusHistory(models.Model):
    """Earlier values of some numbers that dasmon tells. Pruned."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=128)
    at = models.DateTimeField()
    value = models.FloatField()

    class Meta:
        db_table = "status_history"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["instrument", "key", "at"], name="status_history_once"),
        ]
        indexes: ClassVar = [BrinIndex(fields=["at"], name="status_history_at")]


class Signal(models.Model):
    """An alarm of an instrument that is asserted now; a retracted one is gone."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="signals", db_index=False)
    name = models.CharField(max_length=128)
    source = models.CharField(max_length=128, db_default="")
    message = models.CharField(max_length=1000, db_default="")
    #: 0 trace, 1 debug, 2 information, 3 warning, 4 error, 5 fatal.
    level = models.SmallIntegerField()
    at = models.DateTimeField()

    class Meta:
        db_table = "signal"
        constraints: ClassVar = [models.UniqueConstraint(fields=["instrument", "name"], name="signal_once")]


class PV(models.Model):
    """The newest value of a process variable: a number, a text, or a number and the text it stands for."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="pvs", db_index=False)
    name = models.CharField(max_length=255)
    number = models.FloatField(null=True)
    text = models.TextField(null=True)
    units = models.CharField(max_length=64, db_default="")
    #: EPICS alarm status and, where it was told, severity.
    status = models.BigIntegerField(db_default=0)
    severity = models.BigIntegerField(null=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "pv"
        constraints: ClassVar = [models.UniqueConstraint(fields=["instrument", "name"], name="pv_once")]


class PVHistory(models.Model):
    """Earlier numbers of process variables. Pruned."""

    pv = models.ForeignKey(PV, on_delete=models.CASCADE, related_name="history", db_index=False)
    at = models.DateTimeField()
    number = models.FloatField()

    class Meta:
        db_table = "pv_history"
        constraints: ClassVar = [models.UniqueConstraint(fields=["pv", "at"], name="pv_history_once")]
        indexes: ClassVar = [BrinIndex(fields=["at"], name="pv_history_at")]


class MonitoredPV(models.Model):
    """A process variable that an instrument's people want to see first; it need not have a value yet."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE, related_name="monitored", db_index=False)
    name = models.CharField(max_length=255)

    class Meta:
        db_table = "monitored_pv"
        constraints: ClassVar = [models.UniqueConstraint(fields=["instrument", "name"], name="monitored_pv_once")]


class InstrumentTold(models.Model):
    """When open pages were last told that an instrument's values have changed, and whether they have to be told again."""

    instrument = models.OneToOneField(Instrument, on_delete=models.CASCADE, primary_key=True, related_name="+")
    at = models.DateTimeField()
    waits = models.BooleanField(db_default=False)

    class Meta:
        db_table = "instrument_told"
