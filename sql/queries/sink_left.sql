-- The daemon that leads delivers to this sink no more. Its cursor and what it refused stay, for it may come back.
UPDATE creditsd.sinks
SET served_by = NULL
WHERE name = %(name)s
RETURNING name
