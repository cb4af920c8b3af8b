-- Who may speak. A token is kept as a hash under a key of its own, never as it was shown.
CREATE TABLE tokens (
  id            TEXT PRIMARY KEY,
  role          TEXT    NOT NULL,
  tenant        TEXT    NOT NULL,
  -- What it is for; of an agent's token the names that may use it.
  name          TEXT    NOT NULL,
  key           BLOB    NOT NULL,
  hash          BLOB    NOT NULL,
  created_at_ns INTEGER NOT NULL,
  expires_at_ns INTEGER,
  revoked_at_ns INTEGER
) STRICT, WITHOUT ROWID;

-- Grows with every change of what is allowed, whoever makes it: a running sink looks at it.
CREATE TABLE access_generation (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  number INTEGER NOT NULL
) STRICT;
INSERT INTO access_generation VALUES (1, 0);
CREATE TRIGGER tokens_added AFTER INSERT ON tokens BEGIN
  UPDATE access_generation SET number = number + 1;
END;
CREATE TRIGGER tokens_changed AFTER UPDATE ON tokens BEGIN
  UPDATE access_generation SET number = number + 1;
END;

-- What was done, by whom. Only ever added to.
CREATE TABLE audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ns   INTEGER NOT NULL,
  tenant  TEXT    NOT NULL,
  who     TEXT    NOT NULL,
  action  TEXT    NOT NULL,
  object  TEXT    NOT NULL,
  outcome TEXT    NOT NULL,
  address TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at_ns);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN
  SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is only added to');
END;
