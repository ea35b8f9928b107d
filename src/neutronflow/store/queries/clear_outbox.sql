-- Forget commands whose publication is receipted.
DELETE FROM outbox WHERE id = ANY(%(ids)b::bigint[])
