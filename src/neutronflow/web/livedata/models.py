"""Plots, as they were uploaded; the newest of a run is the one that is shown."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class Plot(models.Model):
    """One upload. Instruments are lower case."""

    instrument = models.CharField(max_length=128)
    run_number = models.BigIntegerField()
    #: ``html`` or ``json``.
    kind = models.CharField(max_length=4)
    content = models.BinaryField()
    sha256 = models.CharField(max_length=64)
    #: A picture of a run that is being taken: replaced by the next one, and for good by any other plot of the run.
    live = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "plot"
        indexes: ClassVar = [models.Index(fields=["instrument", "run_number", "-id"], name="plot_newest_of_run")]
