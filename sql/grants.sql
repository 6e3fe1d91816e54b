-- All that the daemon's role needs. It has no right on the user's table: the functions reach it for their owner.
GRANT USAGE ON SCHEMA creditsd TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA creditsd TO {role};
GRANT INSERT ON creditsd.resyncs, creditsd.repairs TO {role};
GRANT UPDATE ON creditsd.reader TO {role};
GRANT INSERT, UPDATE, DELETE ON creditsd.sinks, creditsd.deliveries TO {role};
GRANT INSERT, DELETE ON creditsd.attempts TO {role};
GRANT EXECUTE ON FUNCTION
    creditsd.begin_resync,
    creditsd.counts,
    creditsd.differs,
    creditsd.differs_now,
    creditsd.drain,
    creditsd.drain_few,
    creditsd.fingerprint,
    creditsd.forget,
    creditsd.functions_digest,
    creditsd.guard,
    creditsd.heartbeat,
    creditsd.level_differs,
    creditsd.level_now,
    creditsd.level_of,
    creditsd.low_at,
    creditsd.low_told,
    creditsd.purge,
    creditsd.recompute,
    creditsd.recompute_due,
    creditsd.recovered_at,
    creditsd.resume,
    creditsd.resync_next,
    creditsd.source_rows,
    creditsd.tidy_history,
    creditsd.totals,
    creditsd.totals_now,
    creditsd.users_after,
    creditsd.users_estimated
TO {role};
DROP POLICY IF EXISTS balances_daemon ON creditsd.balances;
CREATE POLICY balances_daemon ON creditsd.balances TO {role} USING (true);
DROP POLICY IF EXISTS history_daemon ON creditsd.history;
CREATE POLICY history_daemon ON creditsd.history TO {role} USING (true);
