-- Only an operator makes a user a superuser, with the owner's rights: the query API neither sets that column nor changes
-- anything of a user but what its calls change. A user's new row has it false.
REVOKE INSERT, UPDATE ON users FROM weir_api;
GRANT INSERT (user_id, email, username, password_hash, created_at, email_confirmed_at) ON users TO weir_api;
GRANT UPDATE (password_hash, email_confirmed_at) ON users TO weir_api;
