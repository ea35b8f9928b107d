"""The web monitor: what people see of every run. A Django project on the workflow database."""
