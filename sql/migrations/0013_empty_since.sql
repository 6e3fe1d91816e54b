-- An empty plan may stand for a while before it is expired.

ALTER TABLE creditsd.balances
    ADD COLUMN empty_since timestamptz;

COMMENT ON COLUMN creditsd.balances.empty_since IS
'Since when the user has had empty plans that are to be expired, and no change; null where none waits for that.';
