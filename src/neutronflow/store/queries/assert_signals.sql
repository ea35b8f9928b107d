-- Alarms that are asserted.
INSERT INTO signal (instrument_id, name, source, message, level, at)
SELECT instrument.id, new.signal, source, message, level, to_timestamp(at)
FROM unnest(%(facilities)b::text[], %(names)b::text[], %(signals)b::text[], %(sources)b::text[], %(messages)b::text[],
            %(levels)b::smallint[], %(times)b::float8[]) AS new (facility, name, signal, source, message, level, at)
JOIN instrument USING (facility, name)
ORDER BY 1, 2
ON CONFLICT (instrument_id, name) DO UPDATE SET
    source = excluded.source,
    message = excluded.message,
    level = excluded.level,
    at = CASE WHEN signal.level = excluded.level AND signal.message = excluded.message THEN signal.at ELSE excluded.at END
