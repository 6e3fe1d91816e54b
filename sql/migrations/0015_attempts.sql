-- What was sent to a sink, and what it answered: for a day, so that one sees why something was refused.

CREATE TABLE creditsd.attempts (
    sink text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    user_id {user_id_type}{user_id_collation},
    users integer NOT NULL,
    webhook_id text NOT NULL,
    status integer,
    milliseconds integer NOT NULL,
    result text NOT NULL,
    answer text NOT NULL,
    PRIMARY KEY (sink, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

COMMENT ON TABLE creditsd.attempts IS
'Requests to webhooks, each sink''s newest of one day: written by the daemon apart from the delivery, so a few may be missing after it was killed.';
COMMENT ON COLUMN creditsd.attempts.number IS 'Their order.';
COMMENT ON COLUMN creditsd.attempts.user_id IS 'Of whom it told; null where it told of several.';
COMMENT ON COLUMN creditsd.attempts.users IS 'Of how many users it told.';
COMMENT ON COLUMN creditsd.attempts.status IS 'The status of the answer; null where there was none.';
COMMENT ON COLUMN creditsd.attempts.result IS 'arrived, refused, troubled (the receiver broke over it), unavailable, or gone.';
COMMENT ON COLUMN creditsd.attempts.answer IS 'The first bytes of the answer, made printable, without our secrets; or why there was none.';
