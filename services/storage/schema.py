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
    """
    -- Roots that are pinned and whose fate is open: written before the pin, settled by the own ledger.
    -- `held_at_ms` 0: no receipt was given to anybody. `lease` is a storage.v1.Lease.
    CREATE TABLE lease (
        root            TEXT NOT NULL,
        msp             TEXT NOT NULL,
        contents_sha256 BLOB NOT NULL,
        lease           BLOB NOT NULL,
        held_at_ms      INTEGER NOT NULL,
        due_at_ms       INTEGER NOT NULL,
        PRIMARY KEY (root, msp)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX lease_due ON lease (due_at_ms);

    -- By a hash of command, record and content: where it was sealed, and its place there.
    CREATE TABLE sealed (command BLOB PRIMARY KEY, root TEXT NOT NULL, place INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE INDEX sealed_in ON sealed (root);

    -- Blocks of what was unpinned, to be removed from the disk.
    CREATE TABLE waiting_block (cid TEXT PRIMARY KEY, since_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX waiting_since ON waiting_block (since_ms);

    -- Nobody is told to unpin any more: each member's storage finds out by its own ledger.
    DROP TABLE replica;
    DROP TABLE chunked;
    DROP TABLE unpin_due
    """,
    """
    -- Decisions on which this member has released a key: each does once. Kept for as long as one can be used.
    CREATE TABLE released (
        command    TEXT NOT NULL,
        reader     TEXT NOT NULL,
        decided_ms INTEGER NOT NULL,
        PRIMARY KEY (command, reader)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX released_at ON released (decided_ms)
    """,
    """
    -- What was opened without a majority: `signed` is the EmergencyAccess. Never removed.
    CREATE TABLE emergency (
        command     TEXT NOT NULL,
        clinician   TEXT NOT NULL,
        patient     TEXT NOT NULL,
        signed      BLOB NOT NULL,
        opened_ms   INTEGER NOT NULL,
        told        INTEGER NOT NULL DEFAULT 0,
        recorded_ms INTEGER NOT NULL DEFAULT 0,
        objection   INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (command, clinician)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX emergency_open ON emergency (opened_ms) WHERE told = 0 OR recorded_ms = 0
    """,
    """
    -- Bytes of the CAR that is pinned under a lease: what each member has open here is counted.
    ALTER TABLE lease ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX lease_of_member ON lease (msp, size)
    """,
)
