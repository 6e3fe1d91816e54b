-- The one rule of which rows count. Bound to PostgreSQL's own operators when it is made, so it needs no search_path and is
-- inlined where it is called.
CREATE FUNCTION creditsd.counts(
    active boolean,
    empty boolean,
    starts_at timestamptz,
    expires_at timestamptz,
    instant timestamptz,
    expire_empty text
)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN (
    active
    AND (starts_at IS NULL OR starts_at <= instant)
    AND (expires_at IS NULL OR expires_at > instant)
    AND NOT (empty AND expire_empty = 'on')
) IS TRUE;

COMMENT ON FUNCTION creditsd.counts IS
'Whether a row of the source counts at an instant. With expire_empty = on an empty one-time row has ceased to count before its status says so.';
