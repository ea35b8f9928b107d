"""Pictures of runs that are still being taken."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds ``plot.live``."""

    dependencies: ClassVar = [("livedata", "0001_initial")]
    operations: ClassVar = [migrations.AddField("plot", "live", models.BooleanField(db_default=False, default=False))]
