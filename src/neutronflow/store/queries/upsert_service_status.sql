-- The last heartbeat of each process.
INSERT INTO service_status (name, pid, role, status, facility, instrument)
SELECT * FROM unnest(%(names)b::text[], %(pids)b::text[], %(roles)b::text[], %(statuses)b::text[], %(facilities)b::text[],
                     %(instruments)b::text[])
ON CONFLICT (name) DO UPDATE SET
    pid = excluded.pid,
    role = excluded.role,
    status = excluded.status,
    facility = excluded.facility,
    instrument = excluded.instrument,
    last_seen = now()
