-- Files whose loss an operator has accepted: what they held was stored and is there no more.
CREATE TABLE lost_files (
  path           TEXT PRIMARY KEY,
  tenant         TEXT    NOT NULL,
  rows           INTEGER NOT NULL,
  accepted_at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
