-- The last heartbeat of each process.
INSERT INTO service_status (name, pid, role, status)
SELECT * FROM unnest(%(names)b::text[], %(pids)b::text[], %(roles)b::text[], %(statuses)b::text[])
ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, role = excluded.role, status = excluded.status, last_seen = now()
