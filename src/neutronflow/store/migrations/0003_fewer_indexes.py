"""Indexes that other indexes make needless: each is paid for with every message."""

from django.db import migrations, models
from django.db.models import CASCADE, PROTECT

#: Made for searches by the beginning of these texts, of which there are none.
_LIKE = {"outbox_nf_id_4d74ae3f_like": "outbox (nf_id", "seen_message_key_58d42c1e_like": "seen_message (key"}


def _of_run(model: str, related: str) -> migrations.AlterField:
    field = models.ForeignKey(to="store.run", related_name=related, db_index=False, on_delete=CASCADE)
    return migrations.AlterField(model, "run", field)


class Migration(migrations.Migration):
    dependencies = [("store", "0002_announce")]
    operations = [
        _of_run("step", "steps"),
        _of_run("event", "events"),
        _of_run("jobreport", "job_reports"),
        migrations.AlterField(
            "run",
            "instrument",
            models.ForeignKey(to="store.instrument", related_name="runs", db_index=False, on_delete=PROTECT),
        ),
        migrations.AlterField(
            "run",
            "experiment",
            models.ForeignKey(
                to="store.experiment", related_name="runs", db_index=False, on_delete=PROTECT, null=True
            ),
        ),
        *(
            migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {column} varchar_pattern_ops)")
            for name, column in _LIKE.items()
        ),
    ]
