-- Forget deduplication keys older than a week.
DELETE FROM seen_message WHERE seen_at < now() - interval '7 days'
