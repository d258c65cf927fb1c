-- The whole house. Moments are milliseconds since 1970 (UTC), documents are JSON text written and
-- read whole, cells are 64-bit H3 numbers. Every constraint has a name, because the name is what a
-- refused request is explained from.

-- Who may call.

CREATE TABLE agencies (
    id UUID CONSTRAINT agencies_pk PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT agencies_name_unique UNIQUE,
    -- A trusted agency's complete case may verify itself.
    trusted BOOLEAN NOT NULL,
    time_zone TEXT NOT NULL,
    retention_days BIGINT NOT NULL CONSTRAINT agencies_retention_positive CHECK (retention_days > 0),
    created_at BIGINT NOT NULL
);

CREATE TABLE operators (
    id UUID CONSTRAINT operators_pk PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT operators_name_unique UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE apps (
    id INTEGER GENERATED ALWAYS AS IDENTITY CONSTRAINT apps_pk PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT apps_name_unique UNIQUE,
    -- Recipients a second that the app agreed to take.
    rate_per_s BIGINT NOT NULL CONSTRAINT apps_rate_positive CHECK (rate_per_s > 0),
    paused BOOLEAN NOT NULL,
    -- Takes part in exercises.
    drills BOOLEAN NOT NULL,
    -- How it wants the body of its AMQP messages.
    format TEXT NOT NULL CONSTRAINT apps_format_known CHECK (format IN ('protobuf', 'json')),
    created_at BIGINT NOT NULL
);

CREATE TABLE keys (
    id UUID CONSTRAINT keys_pk PRIMARY KEY,
    scope TEXT NOT NULL,
    agency_id UUID CONSTRAINT keys_agency_fk REFERENCES agencies (id),
    app_id INTEGER CONSTRAINT keys_app_fk REFERENCES apps (id),
    operator_id UUID CONSTRAINT keys_operator_fk REFERENCES operators (id),
    -- SHA-256 of the secret, which itself is 256 random bits and is never kept.
    hash BYTEA NOT NULL CONSTRAINT keys_hash_unique UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    CONSTRAINT keys_one_holder CHECK (
        (scope = 'agency' AND agency_id IS NOT NULL AND app_id IS NULL AND operator_id IS NULL)
        OR (scope = 'app' AND app_id IS NOT NULL AND agency_id IS NULL AND operator_id IS NULL)
        OR (scope = 'operator' AND operator_id IS NOT NULL AND agency_id IS NULL AND app_id IS NULL)
        OR (scope = 'admin' AND agency_id IS NULL AND app_id IS NULL AND operator_id IS NULL))
);

CREATE TABLE idempotency_keys (
    holder TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    status BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (holder, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Cases.

CREATE TABLE cases (
    id UUID CONSTRAINT cases_pk PRIMARY KEY,
    agency_id UUID NOT NULL CONSTRAINT cases_agency_fk REFERENCES agencies (id),
    state TEXT NOT NULL
        CONSTRAINT cases_state_known CHECK (state IN ('submitted', 'active', 'paused', 'closed', 'rejected')),
    -- Counts every change; it is the ETag.
    version BIGINT NOT NULL,
    urgency TEXT NOT NULL CONSTRAINT cases_urgency_known CHECK (urgency IN ('normal', 'high', 'critical')),
    exercise BOOLEAN NOT NULL,
    time_zone TEXT NOT NULL,
    -- What the distance law needs; kept after erasure for statistics.
    profile TEXT NOT NULL,
    -- Everything personal, gone after the retention period.
    report TEXT,
    proposal TEXT,
    last_seen_at BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    verification TEXT,
    verified_by UUID CONSTRAINT cases_verified_by_fk REFERENCES operators (id),
    verified_at BIGINT,
    -- Recipients this case may tell until an operator confirms it.
    ceiling BIGINT,
    -- Recipients this case may tell altogether.
    budget BIGINT,
    -- Who is told, if an operator said so; else the category decides.
    audience TEXT
        CONSTRAINT cases_audience_known CHECK (audience IN ('volunteers', 'everybody')),
    updates BIGINT NOT NULL,
    paused_at BIGINT,
    -- Only an operator lets it go on then.
    paused_by_operator BOOLEAN NOT NULL,
    closed_at BIGINT,
    outcome TEXT,
    attribution TEXT,
    -- Straight line from the last known position to the find, and time from last seen to it.
    found_km DOUBLE PRECISION,
    found_after_s BIGINT,
    erase_at BIGINT,
    erased_at BIGINT
);
CREATE INDEX cases_by_agency ON cases (agency_id, id);
-- Whose night it may be.
CREATE INDEX cases_active_zones ON cases (time_zone) WHERE state = 'active';
CREATE INDEX cases_by_last_seen ON cases (last_seen_at);
CREATE INDEX cases_to_erase ON cases (erase_at) WHERE erased_at IS NULL AND erase_at IS NOT NULL;

CREATE TABLE duplicates (
    case_id UUID NOT NULL CONSTRAINT duplicates_case_fk REFERENCES cases (id),
    other_id UUID NOT NULL CONSTRAINT duplicates_other_fk REFERENCES cases (id),
    score DOUBLE PRECISION NOT NULL,
    reasons TEXT NOT NULL,
    CONSTRAINT duplicates_pk PRIMARY KEY (case_id, other_id)
);

CREATE TABLE timeline (
    id BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT timeline_pk PRIMARY KEY,
    case_id UUID NOT NULL CONSTRAINT timeline_case_fk REFERENCES cases (id),
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    -- Never anything personal: it outlives erasure.
    detail TEXT NOT NULL
);
CREATE INDEX timeline_by_case ON timeline (case_id, id);

CREATE TABLE sightings (
    id UUID CONSTRAINT sightings_pk PRIMARY KEY,
    case_id UUID NOT NULL CONSTRAINT sightings_case_fk REFERENCES cases (id),
    reported_by TEXT NOT NULL,
    source TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    credibility DOUBLE PRECISION NOT NULL
        CONSTRAINT sightings_credibility_range CHECK (credibility BETWEEN 0 AND 1),
    state TEXT NOT NULL
        CONSTRAINT sightings_state_known CHECK (state IN ('new', 'accepted', 'rejected', 'withdrawn')),
    -- Since when plans take it for more likely true than not; no time passes while the case is paused.
    believed_since BIGINT,
    -- Place, words and contact of who saw; gone after the retention period.
    report TEXT
);
CREATE INDEX sightings_by_case ON sightings (case_id, id);
-- What holds the next wave back.
CREATE INDEX sightings_unchecked ON sightings (case_id, received_at) WHERE state = 'new';

-- Areas that were searched on the ground.
CREATE TABLE searches (
    case_id UUID NOT NULL CONSTRAINT searches_case_fk REFERENCES cases (id),
    number BIGINT NOT NULL,
    reported_by TEXT NOT NULL,
    reported_at BIGINT NOT NULL,
    searched_at BIGINT NOT NULL,
    -- The probability that the person would have been found if there.
    detection DOUBLE PRECISION NOT NULL
        CONSTRAINT searches_detection_range CHECK (detection BETWEEN 0 AND 0.99),
    -- Emptied after the retention period.
    cells TEXT NOT NULL,
    withdrawn BOOLEAN NOT NULL,
    CONSTRAINT searches_pk PRIMARY KEY (case_id, number)
);

-- Plans and alerts.

CREATE TABLE plans (
    id UUID CONSTRAINT plans_pk PRIMARY KEY,
    case_id UUID NOT NULL CONSTRAINT plans_case_fk REFERENCES cases (id),
    version BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    -- Why it was made, and what it changed; none for the first of an alert.
    why TEXT NOT NULL,
    change TEXT,
    -- All inputs and results; gone after the retention period, because they hold a position.
    document TEXT,
    CONSTRAINT plans_case_id_version_unique UNIQUE (case_id, version)
);

CREATE TABLE alerts (
    id UUID CONSTRAINT alerts_pk PRIMARY KEY,
    -- No case: a test of an app's way to its phones.
    case_id UUID CONSTRAINT alerts_case_fk REFERENCES cases (id),
    urgency TEXT NOT NULL,
    exercise BOOLEAN NOT NULL,
    opened_at BIGINT NOT NULL,
    closed_at BIGINT,
    revision BIGINT NOT NULL,
    -- The end of the last released wave's issues; moved on by every release.
    expires_at BIGINT,
    next_sweep_at BIGINT,
    rounds BIGINT NOT NULL,
    -- From when the delays of its waves count, as long as no sighting is believed.
    waves_from BIGINT NOT NULL
);
CREATE INDEX alerts_by_case ON alerts (case_id, id);
CREATE UNIQUE INDEX alerts_case_id_unique ON alerts (case_id) WHERE closed_at IS NULL;

CREATE TABLE revisions (
    alert_id UUID NOT NULL CONSTRAINT revisions_alert_fk REFERENCES alerts (id),
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT revisions_kind_known CHECK (kind IN ('issue', 'update', 'recall', 'test')),
    -- The alert as people read it (protobuf); emptied after the retention period.
    content BYTEA NOT NULL,
    made_at BIGINT NOT NULL,
    CONSTRAINT revisions_pk PRIMARY KEY (alert_id, revision)
);

CREATE TABLE waves (
    alert_id UUID NOT NULL CONSTRAINT waves_alert_fk REFERENCES alerts (id),
    number BIGINT NOT NULL,
    -- The plan it comes from, and its number there.
    plan_id UUID NOT NULL CONSTRAINT waves_plan_fk REFERENCES plans (id),
    plan_wave BIGINT NOT NULL,
    -- Probability of area of this wave alone.
    mass DOUBLE PRECISION NOT NULL,
    cells TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    state TEXT NOT NULL
        CONSTRAINT waves_state_known CHECK (state IN ('waiting', 'approval', 'held', 'released', 'withdrawn')),
    -- Why it needs approval, and how many it would tell.
    approval TEXT,
    approved_by UUID CONSTRAINT waves_approved_by_fk REFERENCES operators (id),
    released_at BIGINT,
    CONSTRAINT waves_pk PRIMARY KEY (alert_id, number)
);
CREATE INDEX waves_waiting ON waves (due_at) WHERE state = 'waiting';

-- The audience.

-- Person numbers are given out by region (a coarse H3 cell), so that neighbours' numbers lie close
-- together: person number = block x 65536 + place. Fan-out locks rows here.
CREATE TABLE person_blocks (
    block BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT person_blocks_pk PRIMARY KEY,
    region BIGINT NOT NULL,
    -- The last of the moves (see person_moves) of subscribers whose number lay here.
    moved BIGINT NOT NULL DEFAULT 0
);

-- Subscribers get another person number in one transaction after the other: each takes the next number of
-- this one row and so keeps it until its end. Whoever takes people off a told-list keeps it, too.
CREATE TABLE person_moves (
    last BIGINT NOT NULL
);
INSERT INTO person_moves (last) VALUES (0);

-- The block that a region's newcomers get their numbers from.
CREATE TABLE person_regions (
    region BIGINT CONSTRAINT person_regions_pk PRIMARY KEY,
    block BIGINT NOT NULL CONSTRAINT person_regions_block_fk REFERENCES person_blocks (block),
    used BIGINT NOT NULL CONSTRAINT person_regions_used_range CHECK (used BETWEEN 0 AND 65536)
);

-- Keys by which apps know that they share a person. Two keys may be one person's, while the secret
-- behind them is changed.
CREATE TABLE persons (
    key BYTEA CONSTRAINT persons_pk PRIMARY KEY,
    number BIGINT NOT NULL,
    -- When an app sent it, to the week: a key that nobody uses any more is forgotten.
    sent_at BIGINT NOT NULL
);
CREATE INDEX persons_by_number ON persons (number);
CREATE INDEX persons_by_sent_at ON persons (sent_at);

CREATE TABLE subscribers (
    app_id INTEGER NOT NULL CONSTRAINT subscribers_app_fk REFERENCES apps (id),
    token BYTEA NOT NULL CONSTRAINT subscribers_token_length CHECK (length(token) BETWEEN 1 AND 64),
    cell BIGINT NOT NULL,
    -- 0 while only a deletion is known of this token.
    person BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    seen_hour INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    muted_until BIGINT NOT NULL,
    CONSTRAINT subscribers_pk PRIMARY KEY (app_id, token)
)
-- Room for a row to move within its page: neighbours are written close together and are to stay so, since a
-- search looks into the table wherever rows moved since the last vacuum. See ops/bench/README.md.
WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
-- Everything the search needs, so that it never touches the table. Bit 0 of flags: deleted.
CREATE INDEX subscribers_by_cell ON subscribers (cell)
    INCLUDE (person, muted_until, seen_hour, app_id, flags, token) WHERE flags & 1 = 0;
-- The few who are told first (bit 4).
CREATE INDEX subscribers_volunteers ON subscribers (cell)
    INCLUDE (person, muted_until, seen_hour, app_id, flags, token) WHERE flags & 17 = 16;
-- Bit 1 of flags: the person is known to more than one app.
CREATE INDEX subscribers_by_shared_person ON subscribers (person) WHERE flags & 3 = 2;
CREATE INDEX subscribers_deleted ON subscribers (seen_at) WHERE flags & 1 = 1;

-- The tokens that an upload of an app's whole registry has named so far: at its end everybody else
-- of the app is deleted. A crash may empty it, which the
-- upload notices.
CREATE UNLOGGED TABLE named_tokens (
    upload UUID NOT NULL,
    token BYTEA NOT NULL,
    named_at BIGINT NOT NULL
);

-- From a wave to a phone.

CREATE TABLE rounds (
    alert_id UUID NOT NULL CONSTRAINT rounds_alert_fk REFERENCES alerts (id),
    number BIGINT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT rounds_kind_known CHECK (kind IN ('volunteers', 'wave', 'sweep')),
    wave BIGINT NOT NULL,
    released_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- The released area for the phone to check against (protobuf).
    area BYTEA NOT NULL,
    CONSTRAINT rounds_pk PRIMARY KEY (alert_id, number)
);

CREATE TABLE shards (
    id UUID CONSTRAINT shards_pk PRIMARY KEY,
    alert_id UUID NOT NULL,
    round BIGINT NOT NULL,
    number BIGINT NOT NULL,
    urgency BIGINT NOT NULL,
    -- The wave whose turn it is: volunteers come with the one before theirs.
    wave BIGINT NOT NULL,
    -- Probability of area of its best cell.
    probability DOUBLE PRECISION NOT NULL,
    ranges TEXT NOT NULL,
    -- How many of its people may be told, if the case has a budget.
    quota BIGINT,
    state TEXT NOT NULL
        CONSTRAINT shards_state_known CHECK (state IN ('pending', 'done', 'withdrawn')),
    attempt BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    done_at BIGINT,
    CONSTRAINT shards_round_fk FOREIGN KEY (alert_id, round) REFERENCES rounds (alert_id, number)
);
CREATE INDEX shards_pending ON shards (urgency DESC, wave, number) WHERE state = 'pending';
CREATE INDEX shards_by_round ON shards (alert_id, round);

-- Told, or why not, per shard and app, as the shard's transaction saw it.
CREATE TABLE counts (
    shard_id UUID NOT NULL CONSTRAINT counts_shard_fk REFERENCES shards (id),
    alert_id UUID NOT NULL,
    round BIGINT NOT NULL,
    app_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    people BIGINT NOT NULL,
    CONSTRAINT counts_pk PRIMARY KEY (shard_id, app_id, reason)
);
CREATE INDEX counts_by_round ON counts (alert_id, round);

-- The one record of who was told: a roaring bitmap of places per block of person numbers.
CREATE TABLE told (
    block BIGINT NOT NULL,
    alert_id UUID NOT NULL CONSTRAINT told_alert_fk REFERENCES alerts (id),
    round BIGINT NOT NULL,
    budget TEXT NOT NULL CONSTRAINT told_budget_known CHECK (budget IN ('usual', 'critical', 'exercise')),
    told_at BIGINT NOT NULL,
    people BYTEA NOT NULL,
    CONSTRAINT told_pk PRIMARY KEY (block, alert_id, round)
);
CREATE INDEX told_by_age ON told (told_at);
CREATE INDEX told_by_alert ON told (alert_id, round);

-- Places on a told-list that are there because another number was told, whose subscribers got this one since. If the
-- number was told itself as well, it has a row with itself as the source.
CREATE TABLE told_carried (
    block BIGINT NOT NULL,
    alert_id UUID NOT NULL,
    round BIGINT NOT NULL,
    person BIGINT NOT NULL,
    source BIGINT NOT NULL,
    CONSTRAINT told_carried_pk PRIMARY KEY (block, person, alert_id, round, source),
    CONSTRAINT told_carried_told_fk FOREIGN KEY (block, alert_id, round)
        REFERENCES told (block, alert_id, round) ON DELETE CASCADE
);
CREATE INDEX told_carried_by_alert ON told_carried (alert_id);

CREATE TABLE batches (
    id UUID CONSTRAINT batches_pk PRIMARY KEY,
    app_id INTEGER NOT NULL CONSTRAINT batches_app_fk REFERENCES apps (id),
    alert_id UUID NOT NULL CONSTRAINT batches_alert_fk REFERENCES alerts (id),
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT batches_kind_known CHECK (kind IN ('issue', 'update', 'recall', 'test')),
    round BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    urgency BIGINT NOT NULL,
    probability DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL CONSTRAINT batches_state_known
        CHECK (state IN ('pending', 'sending', 'sent', 'taken', 'dead', 'expired', 'withdrawn')),
    -- The batch that told these people, for updates and recalls; this one waits until that has settled.
    source_id UUID CONSTRAINT batches_source_fk REFERENCES batches (id),
    people BIGINT NOT NULL,
    -- Tokens and person numbers (see homeward/store/v1/recipients.proto).
    recipients BYTEA NOT NULL,
    fence BIGINT NOT NULL,
    reason TEXT,
    made_at BIGINT NOT NULL,
    sending_at BIGINT,
    sent_at BIGINT,
    settled_at BIGINT,
    expires_at BIGINT NOT NULL,
    -- What the indexes are made of: a step from one state to another that changes neither, as from sending to
    -- sent, touches no index.
    waiting BOOLEAN NOT NULL GENERATED ALWAYS AS (state = 'pending') STORED,
    live BOOLEAN NOT NULL GENERATED ALWAYS AS (state IN ('pending', 'sending', 'sent')) STORED
) WITH (fillfactor = 60);
-- Tokens are random: compressing them costs much and gains little.
ALTER TABLE batches ALTER COLUMN recipients SET STORAGE EXTERNAL;
CREATE INDEX batches_waiting ON batches (app_id, urgency DESC, wave, probability DESC, id) WHERE waiting;
CREATE INDEX batches_by_alert ON batches (alert_id);
CREATE INDEX batches_live ON batches (expires_at, app_id) WHERE live;

CREATE TABLE lanes (
    app_id INTEGER CONSTRAINT lanes_pk PRIMARY KEY CONSTRAINT lanes_app_fk REFERENCES apps (id),
    owner UUID NOT NULL,
    -- Rises with every owner; a batch is finished only by the owner that claimed it.
    fence BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);

CREATE TABLE switches (
    name TEXT CONSTRAINT switches_pk PRIMARY KEY,
    is_on BOOLEAN NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE receipts (
    batch_id UUID NOT NULL CONSTRAINT receipts_batch_fk REFERENCES batches (id),
    kind TEXT NOT NULL
        CONSTRAINT receipts_kind_known CHECK (kind IN ('taken', 'delivered', 'opened', 'trimmed', 'token_gone')),
    people BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    CONSTRAINT receipts_pk PRIMARY KEY (batch_id, kind)
);
