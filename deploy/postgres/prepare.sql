-- What Hallpass needs at a PostgreSQL server (14 or later). An administrator runs it once, and then, in psql:
-- \password hallpass

-- The broker's own user makes and drops roles. It is no superuser and needs no rights on any table. Up to PostgreSQL 15
-- CREATEROLE reaches every role that is no superuser; from 16 on only those that it made, or was given with ADMIN OPTION.
CREATE ROLE hallpass LOGIN NOSUPERUSER CREATEROLE;

-- A group role has the rights; the users of grants become its members, and what they leave behind becomes its own, after
-- what they let others do with it was taken back (or it is dropped, where a role says owned = "drop"). What is to last as
-- it is, such as a migration's tables with their grants, is made as the group role: SET ROLE app_writer. A group role must
-- not be able to make roles, to let others into them, or to reach files and programs: Hallpass refuses that.
CREATE ROLE app_writer NOLOGIN;
GRANT app_writer TO hallpass WITH ADMIN OPTION;

-- Optional: lets Hallpass end the sessions of a user that somebody else dropped.
-- GRANT pg_signal_backend TO hallpass;
