-- The last heartbeat of each process.
INSERT INTO service_status (name, pid, role, status)
SELECT * FROM unnest(%(names)s::text[], %(pids)s::text[], %(roles)s::text[], %(statuses)s::text[])
ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, role = excluded.role, status = excluded.status, last_seen = now()
