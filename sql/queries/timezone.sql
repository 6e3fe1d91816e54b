-- A row where a time zone is known by its name.
SELECT z.name
FROM pg_timezone_names AS z
WHERE lower(z.name) = lower(%(name)s)
LIMIT 1
