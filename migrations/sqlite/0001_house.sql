-- The whole house. Moments are milliseconds since 1970 (UTC), documents are JSON text written and
-- read whole, cells are 64-bit H3 numbers. Every constraint has a name, because the name is what a
-- refused request is explained from.

-- Who may call.

CREATE TABLE agencies (
    id BLOB CONSTRAINT agencies_pk PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT agencies_name_unique UNIQUE,
    -- A trusted agency's complete case may verify itself.
    trusted INTEGER NOT NULL,
    time_zone TEXT NOT NULL,
    retention_days INTEGER NOT NULL CONSTRAINT agencies_retention_positive CHECK (retention_days > 0),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE operators (
    id BLOB CONSTRAINT operators_pk PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT operators_name_unique UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE apps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL CONSTRAINT apps_name_unique UNIQUE,
    -- Recipients a second that the app agreed to take.
    rate_per_s INTEGER NOT NULL CONSTRAINT apps_rate_positive CHECK (rate_per_s > 0),
    paused INTEGER NOT NULL,
    -- Takes part in exercises.
    drills INTEGER NOT NULL,
    -- How it wants the body of its AMQP messages.
    format TEXT NOT NULL CONSTRAINT apps_format_known CHECK (format IN ('protobuf', 'json')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id BLOB CONSTRAINT keys_pk PRIMARY KEY,
    scope TEXT NOT NULL,
    agency_id BLOB CONSTRAINT keys_agency_fk REFERENCES agencies (id),
    app_id INTEGER CONSTRAINT keys_app_fk REFERENCES apps (id),
    operator_id BLOB CONSTRAINT keys_operator_fk REFERENCES operators (id),
    -- SHA-256 of the secret, which itself is 256 random bits and is never kept.
    hash BLOB NOT NULL CONSTRAINT keys_hash_unique UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    CONSTRAINT keys_one_holder CHECK (
        (scope = 'agency' AND agency_id IS NOT NULL AND app_id IS NULL AND operator_id IS NULL)
        OR (scope = 'app' AND app_id IS NOT NULL AND agency_id IS NULL AND operator_id IS NULL)
        OR (scope = 'operator' AND operator_id IS NOT NULL AND agency_id IS NULL AND app_id IS NULL)
        OR (scope = 'admin' AND agency_id IS NULL AND app_id IS NULL AND operator_id IS NULL))
) STRICT;

CREATE TABLE idempotency_keys (
    holder TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (holder, key)
) STRICT;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Cases.

CREATE TABLE cases (
    id BLOB CONSTRAINT cases_pk PRIMARY KEY,
    agency_id BLOB NOT NULL CONSTRAINT cases_agency_fk REFERENCES agencies (id),
    state TEXT NOT NULL
        CONSTRAINT cases_state_known CHECK (state IN ('submitted', 'active', 'paused', 'closed', 'rejected')),
    -- Counts every change; it is the ETag.
    version INTEGER NOT NULL,
    urgency TEXT NOT NULL CONSTRAINT cases_urgency_known CHECK (urgency IN ('normal', 'high', 'critical')),
    exercise INTEGER NOT NULL,
    time_zone TEXT NOT NULL,
    -- What the distance law needs; kept after erasure for statistics.
    profile TEXT NOT NULL,
    -- Everything personal, gone after the retention period.
    report TEXT,
    proposal TEXT,
    last_seen_at INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    verification TEXT,
    verified_by BLOB CONSTRAINT cases_verified_by_fk REFERENCES operators (id),
    verified_at INTEGER,
    -- Recipients this case may tell until an operator confirms it.
    ceiling INTEGER,
    -- Recipients this case may tell altogether.
    budget INTEGER,
    -- Who is told, if an operator said so; else the category decides.
    audience TEXT
        CONSTRAINT cases_audience_known CHECK (audience IN ('volunteers', 'everybody')),
    updates INTEGER NOT NULL,
    paused_at INTEGER,
    -- Only an operator lets it go on then.
    paused_by_operator INTEGER NOT NULL,
    closed_at INTEGER,
    outcome TEXT,
    attribution TEXT,
    -- Straight line from the last known position to the find, and time from last seen to it.
    found_km REAL,
    found_after_s INTEGER,
    erase_at INTEGER,
    erased_at INTEGER
) STRICT;
CREATE INDEX cases_by_agency ON cases (agency_id, id);
-- Whose night it may be.
CREATE INDEX cases_active_zones ON cases (time_zone) WHERE state = 'active';
CREATE INDEX cases_by_last_seen ON cases (last_seen_at);
CREATE INDEX cases_to_erase ON cases (erase_at) WHERE erased_at IS NULL AND erase_at IS NOT NULL;

CREATE TABLE duplicates (
    case_id BLOB NOT NULL CONSTRAINT duplicates_case_fk REFERENCES cases (id),
    other_id BLOB NOT NULL CONSTRAINT duplicates_other_fk REFERENCES cases (id),
    score REAL NOT NULL,
    reasons TEXT NOT NULL,
    CONSTRAINT duplicates_pk PRIMARY KEY (case_id, other_id)
) STRICT;

CREATE TABLE timeline (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id BLOB NOT NULL CONSTRAINT timeline_case_fk REFERENCES cases (id),
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    -- Never anything personal: it outlives erasure.
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX timeline_by_case ON timeline (case_id, id);

CREATE TABLE sightings (
    id BLOB CONSTRAINT sightings_pk PRIMARY KEY,
    case_id BLOB NOT NULL CONSTRAINT sightings_case_fk REFERENCES cases (id),
    reported_by TEXT NOT NULL,
    source TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    credibility REAL NOT NULL
        CONSTRAINT sightings_credibility_range CHECK (credibility BETWEEN 0 AND 1),
    state TEXT NOT NULL
        CONSTRAINT sightings_state_known CHECK (state IN ('new', 'accepted', 'rejected', 'withdrawn')),
    -- Since when plans take it for more likely true than not; no time passes while the case is paused.
    believed_since INTEGER,
    -- Place, words and contact of who saw; gone after the retention period.
    report TEXT
) STRICT;
CREATE INDEX sightings_by_case ON sightings (case_id, id);
-- What holds the next wave back.
CREATE INDEX sightings_unchecked ON sightings (case_id, received_at) WHERE state = 'new';

-- Areas that were searched on the ground.
CREATE TABLE searches (
    case_id BLOB NOT NULL CONSTRAINT searches_case_fk REFERENCES cases (id),
    number INTEGER NOT NULL,
    reported_by TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    searched_at INTEGER NOT NULL,
    -- The probability that the person would have been found if there.
    detection REAL NOT NULL
        CONSTRAINT searches_detection_range CHECK (detection BETWEEN 0 AND 0.99),
    -- Emptied after the retention period.
    cells TEXT NOT NULL,
    withdrawn INTEGER NOT NULL,
    CONSTRAINT searches_pk PRIMARY KEY (case_id, number)
) STRICT;

-- Plans and alerts.

CREATE TABLE plans (
    id BLOB CONSTRAINT plans_pk PRIMARY KEY,
    case_id BLOB NOT NULL CONSTRAINT plans_case_fk REFERENCES cases (id),
    version INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    -- Why it was made, and what it changed; none for the first of an alert.
    why TEXT NOT NULL,
    change TEXT,
    -- All inputs and results; gone after the retention period, because they hold a position.
    document TEXT,
    CONSTRAINT plans_case_id_version_unique UNIQUE (case_id, version)
) STRICT;

CREATE TABLE alerts (
    id BLOB CONSTRAINT alerts_pk PRIMARY KEY,
    -- No case: a test of an app's way to its phones.
    case_id BLOB CONSTRAINT alerts_case_fk REFERENCES cases (id),
    urgency TEXT NOT NULL,
    exercise INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    revision INTEGER NOT NULL,
    -- The end of the last released wave's issues; moved on by every release.
    expires_at INTEGER,
    next_sweep_at INTEGER,
    rounds INTEGER NOT NULL,
    -- From when the delays of its waves count, as long as no sighting is believed.
    waves_from INTEGER NOT NULL
) STRICT;
CREATE INDEX alerts_by_case ON alerts (case_id, id);
CREATE UNIQUE INDEX alerts_case_id_unique ON alerts (case_id) WHERE closed_at IS NULL;

CREATE TABLE revisions (
    alert_id BLOB NOT NULL CONSTRAINT revisions_alert_fk REFERENCES alerts (id),
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL CONSTRAINT revisions_kind_known CHECK (kind IN ('issue', 'update', 'recall', 'test')),
    -- The alert as people read it (protobuf); emptied after the retention period.
    content BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    CONSTRAINT revisions_pk PRIMARY KEY (alert_id, revision)
) STRICT;

CREATE TABLE waves (
    alert_id BLOB NOT NULL CONSTRAINT waves_alert_fk REFERENCES alerts (id),
    number INTEGER NOT NULL,
    -- The plan it comes from, and its number there.
    plan_id BLOB NOT NULL CONSTRAINT waves_plan_fk REFERENCES plans (id),
    plan_wave INTEGER NOT NULL,
    -- Probability of area of this wave alone.
    mass REAL NOT NULL,
    cells TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    state TEXT NOT NULL
        CONSTRAINT waves_state_known CHECK (state IN ('waiting', 'approval', 'held', 'released', 'withdrawn')),
    -- Why it needs approval, and how many it would tell.
    approval TEXT,
    approved_by BLOB CONSTRAINT waves_approved_by_fk REFERENCES operators (id),
    released_at INTEGER,
    CONSTRAINT waves_pk PRIMARY KEY (alert_id, number)
) STRICT;
CREATE INDEX waves_waiting ON waves (due_at) WHERE state = 'waiting';

-- The audience.

-- Person numbers are given out by region (a coarse H3 cell), so that neighbours' numbers lie close
-- together: person number = block x 65536 + place.
CREATE TABLE person_blocks (
    block INTEGER PRIMARY KEY AUTOINCREMENT,
    region INTEGER NOT NULL,
    -- The last of the moves (see person_moves) of subscribers whose number lay here.
    moved INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Subscribers get another person number in one transaction after the other: each takes the next number of
-- this one row and so keeps it until its end. Whoever takes people off a told-list keeps it, too.
CREATE TABLE person_moves (
    last INTEGER NOT NULL
) STRICT;
INSERT INTO person_moves (last) VALUES (0);

-- The block that a region's newcomers get their numbers from.
CREATE TABLE person_regions (
    region INTEGER CONSTRAINT person_regions_pk PRIMARY KEY,
    block INTEGER NOT NULL CONSTRAINT person_regions_block_fk REFERENCES person_blocks (block),
    used INTEGER NOT NULL CONSTRAINT person_regions_used_range CHECK (used BETWEEN 0 AND 65536)
) STRICT;

-- Keys by which apps know that they share a person. Two keys may be one person's, while the secret
-- behind them is changed.
CREATE TABLE persons (
    key BLOB CONSTRAINT persons_pk PRIMARY KEY,
    number INTEGER NOT NULL,
    -- When an app sent it, to the week: a key that nobody uses any more is forgotten.
    sent_at INTEGER NOT NULL
) STRICT;
CREATE INDEX persons_by_number ON persons (number);
CREATE INDEX persons_by_sent_at ON persons (sent_at);

CREATE TABLE subscribers (
    app_id INTEGER NOT NULL CONSTRAINT subscribers_app_fk REFERENCES apps (id),
    token BLOB NOT NULL CONSTRAINT subscribers_token_length CHECK (length(token) BETWEEN 1 AND 64),
    cell INTEGER NOT NULL,
    -- 0 while only a deletion is known of this token.
    person INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    seen_hour INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    muted_until INTEGER NOT NULL,
    CONSTRAINT subscribers_pk PRIMARY KEY (app_id, token)
) STRICT, WITHOUT ROWID;
-- Everything the search needs, so that it never touches the table. Bit 0 of flags: deleted.
CREATE INDEX subscribers_by_cell ON subscribers
    (cell, person, muted_until, seen_hour, app_id, flags, token) WHERE flags & 1 = 0;
-- The few who are told first (bit 4).
CREATE INDEX subscribers_volunteers ON subscribers
    (cell, person, muted_until, seen_hour, app_id, flags, token) WHERE flags & 17 = 16;
-- Bit 1 of flags: the person is known to more than one app.
CREATE INDEX subscribers_by_shared_person ON subscribers (person) WHERE flags & 3 = 2;
CREATE INDEX subscribers_deleted ON subscribers (seen_at) WHERE flags & 1 = 1;

-- The tokens that an upload of an app's whole registry has named so far: at its end everybody else
-- of the app is deleted.
CREATE TABLE named_tokens (
    upload BLOB NOT NULL,
    token BLOB NOT NULL,
    named_at INTEGER NOT NULL
);

-- From a wave to a phone.

CREATE TABLE rounds (
    alert_id BLOB NOT NULL CONSTRAINT rounds_alert_fk REFERENCES alerts (id),
    number INTEGER NOT NULL,
    kind TEXT NOT NULL CONSTRAINT rounds_kind_known CHECK (kind IN ('volunteers', 'wave', 'sweep')),
    wave INTEGER NOT NULL,
    released_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- The released area for the phone to check against (protobuf).
    area BLOB NOT NULL,
    CONSTRAINT rounds_pk PRIMARY KEY (alert_id, number)
) STRICT;

CREATE TABLE shards (
    id BLOB CONSTRAINT shards_pk PRIMARY KEY,
    alert_id BLOB NOT NULL,
    round INTEGER NOT NULL,
    number INTEGER NOT NULL,
    urgency INTEGER NOT NULL,
    -- The wave whose turn it is: volunteers come with the one before theirs.
    wave INTEGER NOT NULL,
    -- Probability of area of its best cell.
    probability REAL NOT NULL,
    ranges TEXT NOT NULL,
    -- How many of its people may be told, if the case has a budget.
    quota INTEGER,
    state TEXT NOT NULL
        CONSTRAINT shards_state_known CHECK (state IN ('pending', 'done', 'withdrawn')),
    attempt INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    done_at INTEGER,
    CONSTRAINT shards_round_fk FOREIGN KEY (alert_id, round) REFERENCES rounds (alert_id, number)
) STRICT;
CREATE INDEX shards_pending ON shards (urgency DESC, wave, number) WHERE state = 'pending';
CREATE INDEX shards_by_round ON shards (alert_id, round);

-- Told, or why not, per shard and app, as the shard's transaction saw it.
CREATE TABLE counts (
    shard_id BLOB NOT NULL CONSTRAINT counts_shard_fk REFERENCES shards (id),
    alert_id BLOB NOT NULL,
    round INTEGER NOT NULL,
    app_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    people INTEGER NOT NULL,
    CONSTRAINT counts_pk PRIMARY KEY (shard_id, app_id, reason)
) STRICT;
CREATE INDEX counts_by_round ON counts (alert_id, round);

-- The one record of who was told: a roaring bitmap of places per block of person numbers.
CREATE TABLE told (
    block INTEGER NOT NULL,
    alert_id BLOB NOT NULL CONSTRAINT told_alert_fk REFERENCES alerts (id),
    round INTEGER NOT NULL,
    budget TEXT NOT NULL CONSTRAINT told_budget_known CHECK (budget IN ('usual', 'critical', 'exercise')),
    told_at INTEGER NOT NULL,
    people BLOB NOT NULL,
    CONSTRAINT told_pk PRIMARY KEY (block, alert_id, round)
) STRICT;
CREATE INDEX told_by_age ON told (told_at);
CREATE INDEX told_by_alert ON told (alert_id, round);

-- Places on a told-list that are there because another number was told, whose subscribers got this one since. If the
-- number was told itself as well, it has a row with itself as the source.
CREATE TABLE told_carried (
    block INTEGER NOT NULL,
    alert_id BLOB NOT NULL,
    round INTEGER NOT NULL,
    person INTEGER NOT NULL,
    source INTEGER NOT NULL,
    CONSTRAINT told_carried_pk PRIMARY KEY (block, person, alert_id, round, source),
    CONSTRAINT told_carried_told_fk FOREIGN KEY (block, alert_id, round)
        REFERENCES told (block, alert_id, round) ON DELETE CASCADE
) STRICT;
CREATE INDEX told_carried_by_alert ON told_carried (alert_id);

CREATE TABLE batches (
    id BLOB CONSTRAINT batches_pk PRIMARY KEY,
    app_id INTEGER NOT NULL CONSTRAINT batches_app_fk REFERENCES apps (id),
    alert_id BLOB NOT NULL CONSTRAINT batches_alert_fk REFERENCES alerts (id),
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL CONSTRAINT batches_kind_known CHECK (kind IN ('issue', 'update', 'recall', 'test')),
    round INTEGER NOT NULL,
    wave INTEGER NOT NULL,
    urgency INTEGER NOT NULL,
    probability REAL NOT NULL,
    state TEXT NOT NULL CONSTRAINT batches_state_known
        CHECK (state IN ('pending', 'sending', 'sent', 'taken', 'dead', 'expired', 'withdrawn')),
    -- The batch that told these people, for updates and recalls; this one waits until that has settled.
    source_id BLOB CONSTRAINT batches_source_fk REFERENCES batches (id),
    people INTEGER NOT NULL,
    -- Tokens and person numbers (see homeward/store/v1/recipients.proto).
    recipients BLOB NOT NULL,
    fence INTEGER NOT NULL,
    reason TEXT,
    made_at INTEGER NOT NULL,
    sending_at INTEGER,
    sent_at INTEGER,
    settled_at INTEGER,
    expires_at INTEGER NOT NULL,
    -- What the indexes are made of.
    waiting INTEGER NOT NULL GENERATED ALWAYS AS (state = 'pending') STORED,
    live INTEGER NOT NULL GENERATED ALWAYS AS (state IN ('pending', 'sending', 'sent')) STORED
) STRICT;
CREATE INDEX batches_waiting ON batches (app_id, urgency DESC, wave, probability DESC, id) WHERE waiting;
CREATE INDEX batches_by_alert ON batches (alert_id);
CREATE INDEX batches_live ON batches (expires_at, app_id) WHERE live;

CREATE TABLE lanes (
    app_id INTEGER CONSTRAINT lanes_pk PRIMARY KEY CONSTRAINT lanes_app_fk REFERENCES apps (id),
    owner BLOB NOT NULL,
    -- Rises with every owner; a batch is finished only by the owner that claimed it.
    fence INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE switches (
    name TEXT CONSTRAINT switches_pk PRIMARY KEY,
    is_on INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE receipts (
    batch_id BLOB NOT NULL CONSTRAINT receipts_batch_fk REFERENCES batches (id),
    kind TEXT NOT NULL
        CONSTRAINT receipts_kind_known CHECK (kind IN ('taken', 'delivered', 'opened', 'trimmed', 'token_gone')),
    people INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    CONSTRAINT receipts_pk PRIMARY KEY (batch_id, kind)
) STRICT;
