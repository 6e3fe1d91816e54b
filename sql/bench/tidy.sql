-- Every slice begins alike.
TRUNCATE creditsd_bench.changes;
VACUUM creditsd_bench.plain;
VACUUM creditsd_bench.notifying;
VACUUM creditsd_bench.captured;
