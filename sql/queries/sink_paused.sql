-- Deliver nothing to a sink until told otherwise; the first to pause it is remembered.
INSERT INTO creditsd.sinks AS s (name, paused_at)
VALUES (%(name)s, now())
ON CONFLICT (name) DO UPDATE
SET paused_at = coalesce(s.paused_at, excluded.paused_at)
