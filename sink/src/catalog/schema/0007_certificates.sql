-- How often each of these may be turned into a certificate.
CREATE TABLE enroll_tokens (
  id            TEXT PRIMARY KEY,
  tenant        TEXT    NOT NULL,
  -- The names that may use it.
  pattern       TEXT    NOT NULL,
  key           BLOB    NOT NULL,
  hash          BLOB    NOT NULL,
  uses          INTEGER NOT NULL,
  used          INTEGER NOT NULL,
  created_at_ns INTEGER NOT NULL,
  expires_at_ns INTEGER,
  revoked_at_ns INTEGER
) STRICT, WITHOUT ROWID;

-- Certificates of agents that the sink has signed. What is not here is nobody's.
CREATE TABLE certificates (
  -- SHA-256 of its DER.
  fingerprint   TEXT PRIMARY KEY,
  tenant        TEXT    NOT NULL,
  agent         TEXT    NOT NULL,
  -- The token it was enrolled with, or the fingerprint of the certificate it renewed.
  source        TEXT    NOT NULL,
  public_key    BLOB    NOT NULL,
  created_at_ns INTEGER NOT NULL,
  not_after_ns  INTEGER NOT NULL,
  revoked_at_ns INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_agent ON certificates (tenant, agent);
CREATE INDEX certificates_source ON certificates (source);
CREATE TRIGGER certificates_added AFTER INSERT ON certificates BEGIN
  UPDATE access_generation SET number = number + 1;
END;
CREATE TRIGGER certificates_changed AFTER UPDATE ON certificates BEGIN
  UPDATE access_generation SET number = number + 1;
END;
