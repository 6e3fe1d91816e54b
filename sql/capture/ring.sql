-- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it.
    IF NOT pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NOTIFY creditsd;
    END IF;
