-- The server that is led from now on; noted once its republishing is done.
UPDATE creditsd.reader
SET timeline = %(timeline)s, started_at = %(started_at)s::text::timestamptz
