-- Whether we are installed, readable or not; and whether there is a schema of the name, which may be anybody's.
SELECT
    EXISTS (
        SELECT
        FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass('creditsd.installation')
        AND a.attname = 'digest'
    ),
    to_regnamespace('creditsd') IS NOT NULL
