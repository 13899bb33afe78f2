"""Tables of storage's database. Append migrations, never change one."""

MIGRATIONS = (
    """
    -- Writer keys of this member, encrypted under a key that follows from the vault key.
    CREATE TABLE writer_key (
        key_id  TEXT PRIMARY KEY,
        patient TEXT NOT NULL,
        epoch   INTEGER NOT NULL,
        at_rest BLOB NOT NULL,
        sealed  BLOB NOT NULL,
        UNIQUE (patient, epoch)
    ) STRICT, WITHOUT ROWID;

    -- On whose behalf the own Kubo node pins a root: this member's own, or one that sent it.
    CREATE TABLE held_root (
        root TEXT NOT NULL,
        msp  TEXT NOT NULL,
        PRIMARY KEY (root, msp)
    ) STRICT, WITHOUT ROWID;

    -- Which other members hold a root of this member.
    CREATE TABLE replica (
        root TEXT NOT NULL,
        msp  TEXT NOT NULL,
        PRIMARY KEY (root, msp)
    ) STRICT, WITHOUT ROWID;

    -- Records of a root that lie in several blocks: their chunks (JSON list of CIDs).
    CREATE TABLE chunked (
        root   TEXT NOT NULL,
        record TEXT NOT NULL,
        chunks TEXT NOT NULL,
        PRIMARY KEY (root, record)
    ) STRICT, WITHOUT ROWID;

    -- Roots to be let go somewhere, and what of them is kept (JSON list of CIDs).
    CREATE TABLE unpin_due (
        root      TEXT NOT NULL,
        msp       TEXT NOT NULL,
        keep      TEXT NOT NULL,
        due_at_ms INTEGER NOT NULL,
        attempts  INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (root, msp)
    ) STRICT, WITHOUT ROWID;
    """,
)
