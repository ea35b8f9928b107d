-- Tell open pages of instruments of which they were told too short a time ago when something changed.
SELECT nf_tell_instruments(array_agg(instrument_id)) FROM instrument_told WHERE waits AND at < now() - interval '2 s'
HAVING count(*) > 0
