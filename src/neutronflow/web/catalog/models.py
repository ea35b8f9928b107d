"""What is cataloged."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class Datafile(models.Model):
    """A raw data file, by its location."""

    location = models.TextField(unique=True)
    facility = models.CharField(max_length=64)
    instrument = models.CharField(max_length=64)
    experiment = models.CharField(max_length=64)
    run_number = models.BigIntegerField(null=True)
    ext = models.CharField(max_length=32)
    metadata = models.JSONField()
    ingested = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "datafile"
        indexes: ClassVar = [
            models.Index(fields=["facility", "instrument", "run_number"], name="datafile_of_run"),
            models.Index(fields=["facility", "instrument", "experiment"], name="datafile_of_experiment"),
        ]


class Reduction(models.Model):
    """Reduced data of a run, by the location of the document that describes them."""

    location = models.TextField(unique=True)
    facility = models.CharField(max_length=64)
    instrument = models.CharField(max_length=64)
    experiment = models.CharField(max_length=64)
    run_number = models.BigIntegerField(null=True)
    document = models.JSONField()
    ingested = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "reduction"
        indexes: ClassVar = [models.Index(fields=["facility", "instrument", "run_number"], name="reduction_of_run")]
