-- Deliver to a sink again, whoever or whatever stopped it.
INSERT INTO creditsd.sinks (name)
VALUES (%(name)s)
ON CONFLICT (name) DO UPDATE
SET paused_at = NULL, disabled_reason = NULL
