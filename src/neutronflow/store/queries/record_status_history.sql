-- Numbers whose course is kept for a while.
INSERT INTO status_history (instrument_id, key, at, value)
SELECT instrument.id, key, to_timestamp(at), value
FROM unnest(%(facilities)b::text[], %(names)b::text[], %(keys)b::text[], %(numbers)b::float8[], %(times)b::float8[])
     AS new (facility, name, key, value, at)
JOIN instrument USING (facility, name)
ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING
