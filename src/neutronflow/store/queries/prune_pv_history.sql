-- Forget earlier values of process variables.
DELETE FROM pv_history WHERE at < now() - make_interval(secs => %(seconds)b::float8)
