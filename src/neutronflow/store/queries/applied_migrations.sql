-- The migrations of the store that this database has.
SELECT name FROM django_migrations WHERE app = 'store'
