-- Ask whoever leads, or will, to recompute everyone, and wake them.
WITH asked AS (
    INSERT INTO creditsd.resyncs (cause)
    VALUES ('table mended')
    RETURNING cause
)
SELECT pg_notify('creditsd', '')
FROM asked
