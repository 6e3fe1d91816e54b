-- Awake: writers need not ring. However often it was taken.
SELECT pg_advisory_unlock_all()
