-- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
-- somebody has filled the queue of notifications to more than a half: a full one fails commits, and the daemon polls once it sees that.
-- Asked without NOT, which each transaction would set up too.
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
