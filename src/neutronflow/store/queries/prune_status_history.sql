-- Forget earlier values that instruments have told.
DELETE FROM status_history WHERE at < now() - make_interval(secs => %(seconds)b::float8)
