-- The newest values that instruments tell.
INSERT INTO status_value (instrument_id, key, value, at)
SELECT instrument.id, key, value, to_timestamp(at)
FROM unnest(%(facilities)b::text[], %(names)b::text[], %(keys)b::text[], %(values)b::text[], %(times)b::float8[])
     AS new (facility, name, key, value, at)
JOIN instrument USING (facility, name)
ORDER BY 1, 2
ON CONFLICT (instrument_id, key) DO UPDATE SET value = excluded.value, at = excluded.at WHERE status_value.at <= excluded.at
