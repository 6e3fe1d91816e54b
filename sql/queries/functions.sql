-- Every function of ours but those that triggers and policies hold on to, as DROP wants to read it.
SELECT 'creditsd.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')'
FROM pg_proc AS p
WHERE p.pronamespace = 'creditsd'::regnamespace
AND p.prorettype <> 'trigger'::regtype
AND p.proname <> 'signed_in'
ORDER BY 1
