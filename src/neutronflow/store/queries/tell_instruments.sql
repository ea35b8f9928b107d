-- Tell open pages, now or soon, that values of these instruments have changed. Has to be the last statement of its transaction.
SELECT nf_tell_instruments(array_agg(instrument.id))
FROM unnest(%(facilities)b::text[], %(names)b::text[]) AS changed (facility, name) JOIN instrument USING (facility, name)
