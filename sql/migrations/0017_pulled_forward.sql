-- Of a delivery that waits, whether it was tried ahead of its schedule: that is done once.
ALTER TABLE creditsd.deliveries
    ADD COLUMN pulled_forward boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN creditsd.deliveries.pulled_forward IS
'Whether this version was tried ahead of its schedule, because the sink was well again; that happens once and costs no try.';
