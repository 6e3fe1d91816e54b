-- The sink's cursor; a new sink begins at nothing, and so is told of everyone.
INSERT INTO creditsd.sinks (name)
VALUES (%(name)s)
ON CONFLICT (name) DO UPDATE
SET name = excluded.name
RETURNING cursor
