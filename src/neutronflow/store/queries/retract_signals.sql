-- Alarms that are over.
DELETE FROM signal USING unnest(%(facilities)b::text[], %(names)b::text[], %(signals)b::text[]) AS over (facility, name, signal),
    instrument
WHERE instrument.facility = over.facility AND instrument.name = over.name AND signal.instrument_id = instrument.id
    AND signal.name = over.signal
