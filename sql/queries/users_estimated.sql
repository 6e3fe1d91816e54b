-- About how many users there are.
SELECT creditsd.users_estimated()
