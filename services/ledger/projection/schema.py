"""The projection's tables. All of it follows from the blocks: delete the file, and it is made again."""

MIGRATIONS = (
    """
    -- How far each follower has come; `header_hash` is of the last block, and in the next one.
    CREATE TABLE checkpoint (
        name TEXT PRIMARY KEY, next_block INTEGER NOT NULL, header_hash BLOB NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE block (number INTEGER PRIMARY KEY, header BLOB NOT NULL);

    CREATE TABLE transaction_block (tx_id TEXT PRIMARY KEY, block INTEGER NOT NULL) WITHOUT ROWID;

    CREATE TABLE identity (
        address TEXT PRIMARY KEY, role INTEGER NOT NULL, status INTEGER NOT NULL, home_msp TEXT NOT NULL,
        document BLOB NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE record (
        seq INTEGER PRIMARY KEY, record_id TEXT NOT NULL, version INTEGER NOT NULL, patient TEXT NOT NULL,
        category TEXT NOT NULL, document BLOB NOT NULL
    );
    CREATE UNIQUE INDEX record_version ON record (record_id, version);
    CREATE INDEX record_of_patient ON record (patient, seq);

    CREATE TABLE writer_key (
        writer_msp TEXT NOT NULL, patient TEXT NOT NULL, epoch INTEGER NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (writer_msp, patient, epoch)
    ) WITHOUT ROWID;

    -- The receipts too: `tx_id` and `block` are of the first writing and never change.
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, command_id TEXT NOT NULL, signer TEXT NOT NULL, about TEXT NOT NULL,
        block INTEGER NOT NULL, entry BLOB NOT NULL
    );
    CREATE UNIQUE INDEX audit_of_command ON audit (command_id, signer);
    CREATE INDEX audit_about ON audit (about, seq)
    """,
    """
    -- Everything is read again from the first block. What was published stays so.
    DELETE FROM checkpoint WHERE name = 'projection';
    DELETE FROM block;
    DELETE FROM transaction_block;
    DELETE FROM identity;
    DROP TABLE record;
    DROP TABLE writer_key;
    DROP TABLE audit;

    -- An index led by a person would touch a page of its own for each row. Instead each row names the
    -- `previous` one of the same person, and a person's newest rows stand in a small table; 0: none.
    CREATE TABLE person (address TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE newest (
        person INTEGER PRIMARY KEY, record INTEGER NOT NULL, entry INTEGER NOT NULL, entries INTEGER NOT NULL
    );

    -- `record_id` is NULL when the record was deleted: the row stays, as a link.
    CREATE TABLE record (
        seq INTEGER PRIMARY KEY, record_id TEXT, version INTEGER NOT NULL, patient INTEGER NOT NULL,
        previous INTEGER NOT NULL, category TEXT NOT NULL, document BLOB NOT NULL
    );
    CREATE UNIQUE INDEX record_version ON record (record_id, version);

    CREATE TABLE writer_key (
        patient INTEGER NOT NULL, writer_msp TEXT NOT NULL, epoch INTEGER NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (patient, writer_msp, epoch)
    ) WITHOUT ROWID;

    -- The receipts too: `tx_id` and `block` are of the first writing and never change.
    -- `nth` entry about the person, from 1: each 32nd is in an index, and a trail can be read from any place.
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, command_id TEXT NOT NULL, signer INTEGER NOT NULL, about INTEGER NOT NULL,
        nth INTEGER NOT NULL, previous INTEGER NOT NULL, block INTEGER NOT NULL, entry BLOB NOT NULL
    );
    CREATE UNIQUE INDEX audit_of_command ON audit (command_id, signer);
    CREATE INDEX audit_mark ON audit (about, nth) WHERE nth % 32 = 0
    """,
    """
    -- Everything is read again: the rows did not say in which sealed batch a content lies.
    DELETE FROM checkpoint WHERE name = 'projection';
    DELETE FROM block;
    DELETE FROM transaction_block;
    DELETE FROM identity;
    DELETE FROM person;
    DELETE FROM newest;
    DELETE FROM record;
    DELETE FROM writer_key;
    DELETE FROM audit;

    -- Storage asks what is named of the batches and of the evidence that it holds.
    ALTER TABLE record ADD COLUMN root BLOB;
    CREATE INDEX record_of_root ON record (root) WHERE root IS NOT NULL;
    ALTER TABLE identity ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
    CREATE INDEX identity_of_evidence ON identity (evidence) WHERE evidence <> ''
    """,
    # Nobody asks for a block's header.
    "DROP TABLE block",
    # The newest minute that the channel was told (docs/adr/0021-the-channels-time.md), in one row.
    "CREATE TABLE newest_epoch (row INTEGER PRIMARY KEY CHECK (row = 0), number INTEGER NOT NULL)",
)
