"""The tables of the inboxes. A notice takes about 80 bytes, and a page for many rather than one of its own.

names         every text that recurs (addresses, kinds, MSP ids, …), once; elsewhere stands its number.
              0 is the empty text
transactions  a row for each that told somebody something, another when a later part of it did. Its notices
              have ids from `first` to `last`, perhaps with others' between: so one that comes again is known
notices       never changed. `notification_id` is when it was written (Unix time in microseconds), or one
              more than the one before it. `previous` is the id of the same owner's notice before it, or 0:
              an inbox is a chain. An index by owner would cost each notice a page, written to the log and
              back
inboxes       the id of each owner's newest notice; a few pages, which nearly every write changes
progress      the next block that is to be told of: it goes on in the transaction that keeps what was told
left_unseen   what is not acknowledged up to `inboxes.seen_to`; of what is newer, nothing is
notifications a view of it all in words, as `notify.v1.Notification` has it

What is old is removed from the front. A link to a notice that is gone ends the chain.
"""

MIGRATIONS = (
    """
    CREATE TABLE notifications (
        notification_id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL, kind TEXT NOT NULL, tx_id TEXT NOT NULL,
        block INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL, actor_msp TEXT NOT NULL,
        record_id TEXT NOT NULL, version INTEGER NOT NULL, category TEXT NOT NULL, purpose TEXT NOT NULL,
        consent_id TEXT NOT NULL, code INTEGER NOT NULL, command_id TEXT NOT NULL, subject TEXT NOT NULL,
        acknowledged INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tx_id, command_id, kind, owner, actor)
    ) STRICT;
    CREATE INDEX notifications_by_owner ON notifications (owner, notification_id);
    CREATE INDEX notifications_unseen ON notifications (owner, notification_id) WHERE acknowledged = 0;
    CREATE TABLE identities (
        address TEXT PRIMARY KEY, role INTEGER NOT NULL, home_msp TEXT NOT NULL,
        status INTEGER NOT NULL, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_by_role ON identities (role, status);
    CREATE TABLE inbox (inbox_id TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE names (name_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE transactions (
        transaction_id INTEGER PRIMARY KEY, tx_id TEXT NOT NULL, block INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX transactions_by_block ON transactions (block);
    CREATE TABLE notices (
        notification_id INTEGER PRIMARY KEY,
        owner INTEGER NOT NULL, previous INTEGER NOT NULL, transaction_id INTEGER NOT NULL,
        kind INTEGER NOT NULL, later_ms INTEGER NOT NULL, -- than its transaction
        actor INTEGER NOT NULL, actor_msp INTEGER NOT NULL,
        record_id ANY NOT NULL, version INTEGER NOT NULL, category INTEGER NOT NULL, purpose INTEGER NOT NULL,
        consent_id ANY NOT NULL, code INTEGER NOT NULL, command_id ANY NOT NULL, subject INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE inboxes (
        owner INTEGER PRIMARY KEY, newest INTEGER NOT NULL, seen_to INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE left_unseen (
        owner INTEGER NOT NULL, notification_id INTEGER NOT NULL, PRIMARY KEY (owner, notification_id)
    ) STRICT, WITHOUT ROWID;

    INSERT INTO names VALUES (0, '');
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT owner FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT kind FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT actor FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT actor_msp FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT category FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT purpose FROM notifications;
    INSERT OR IGNORE INTO names (name) SELECT DISTINCT subject FROM notifications;
    INSERT INTO transactions (tx_id, block, at_ms, first, last)
        SELECT tx_id, block, min(at_ms), min(notification_id), max(notification_id)
        FROM notifications GROUP BY tx_id, block ORDER BY min(notification_id);
    INSERT INTO notices
        SELECT old.notification_id, owner.name_id,
            lag(old.notification_id, 1, 0) OVER (PARTITION BY old.owner ORDER BY old.notification_id),
            transaction_id, kind.name_id, old.at_ms - transactions.at_ms, actor.name_id, actor_msp.name_id,
            record_id, version, category.name_id, purpose.name_id,
            consent_id, code, command_id, subject.name_id
        FROM notifications AS old
        JOIN transactions ON transactions.block = old.block AND transactions.tx_id = old.tx_id
        JOIN names AS owner ON owner.name = old.owner
        JOIN names AS kind ON kind.name = old.kind
        JOIN names AS actor ON actor.name = old.actor
        JOIN names AS actor_msp ON actor_msp.name = old.actor_msp
        JOIN names AS category ON category.name = old.category
        JOIN names AS purpose ON purpose.name = old.purpose
        JOIN names AS subject ON subject.name = old.subject
        ORDER BY old.notification_id;
    INSERT INTO inboxes
        SELECT name_id, max(notification_id), max(iif(acknowledged = 1, notification_id, 0))
        FROM notifications JOIN names ON name = owner GROUP BY owner;
    INSERT INTO left_unseen
        SELECT inboxes.owner, notification_id
        FROM notifications JOIN names ON name = notifications.owner JOIN inboxes ON inboxes.owner = name_id
        WHERE acknowledged = 0 AND notification_id < seen_to;

    DROP TABLE notifications;
    CREATE VIEW notifications AS
        SELECT notification_id, owner.name AS owner, kind.name AS kind,
            tx_id, block, at_ms + later_ms AS at_ms, actor.name AS actor, actor_msp.name AS actor_msp,
            record_id, version, category.name AS category, purpose.name AS purpose,
            consent_id, code, command_id, subject.name AS subject,
            notification_id <= seen_to AND NOT EXISTS (
                SELECT 1 FROM left_unseen AS still
                WHERE still.owner = notices.owner AND still.notification_id = notices.notification_id
            ) AS acknowledged
        FROM notices
        CROSS JOIN transactions USING (transaction_id)
        CROSS JOIN inboxes ON inboxes.owner = notices.owner
        CROSS JOIN names AS owner ON owner.name_id = notices.owner
        CROSS JOIN names AS kind ON kind.name_id = notices.kind
        CROSS JOIN names AS actor ON actor.name_id = notices.actor
        CROSS JOIN names AS actor_msp ON actor_msp.name_id = notices.actor_msp
        CROSS JOIN names AS category ON category.name_id = notices.category
        CROSS JOIN names AS purpose ON purpose.name_id = notices.purpose
        CROSS JOIN names AS subject ON subject.name_id = notices.subject;
    """,
    """
    -- Told again from the first block, each notice once only.
    CREATE TABLE progress (next_block INTEGER NOT NULL) STRICT;
    INSERT INTO progress VALUES (0);
    DROP TABLE inbox;
    """,
)
