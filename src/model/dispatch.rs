//! Words of dispatch that the store, the rules and the interfaces share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::named::named;
use super::{AlertId, AppId, BatchId, CaseId, CaseKind, PersonNumber, Urgency};

named! {
    /// What a revision or batch says to people.
    "kind" Kind {
        /// Somebody is missing.
        Issue = "issue",
        /// Something changed.
        Update = "update",
        /// Over: the notice goes away.
        Recall = "recall",
        /// A test of an app's way to its phones; belongs to no case.
        Test = "test",
    }
}

named! {
    /// Where a batch is on its way.
    "state" BatchState {
        /// Waits in the database.
        Pending = "pending",
        /// Handed to the app queue, not yet confirmed: it may have gone out.
        Sending = "sending",
        /// Confirmed by the app queue.
        Sent = "sent",
        /// Acknowledged by the app.
        Taken = "taken",
        /// Refused too often; can be replayed.
        Dead = "dead",
        /// Not taken in time.
        Expired = "expired",
        /// Taken back before it was sent.
        Withdrawn = "withdrawn",
    }
}

named! {
    /// What a round is.
    "kind" RoundKind {
        /// A wave or sweep that goes to volunteers first, and one wave further out.
        Volunteers = "volunteers",
        /// A wave's first release.
        Wave = "wave",
        /// A repeat over all cells released so far.
        Sweep = "sweep",
    }
}

named! {
    /// What became of a person in the area: told, or why not.
    "reason" Reason {
        /// Told.
        Told = "told",
        /// Told by an earlier wave or sweep of this alert.
        ToldAlready = "told_already",
        /// Opted out of alerts, of this kind of case, or of exercises.
        OptedOut = "opted_out",
        /// Does not want to be disturbed now.
        Muted = "muted",
        /// Last seen here too long ago.
        StalePosition = "stale_position",
        /// It is night there.
        QuietHours = "quiet_hours",
        /// Was told of enough alerts lately.
        Cap = "cap",
        /// The app is paused.
        AppPaused = "app_paused",
        /// The case is for volunteers and responders only, and the person is none.
        VolunteersOnly = "volunteers_only",
        /// The case has used up its budget.
        Budget = "budget",
        /// The case may tell no more until an operator confirms it.
        Ceiling = "ceiling",
    }
}

named! {
    /// Which allowance of alerts a case draws on.
    "budget" CapBudget {
        /// That of ordinary cases.
        Usual = "usual",
        /// That of critical cases.
        Critical = "critical",
        /// That of drills.
        Exercise = "exercise",
    }
}

impl CapBudget {
    /// The allowance that a case draws on.
    #[must_use]
    pub const fn of(urgency: Urgency, exercise: bool) -> Self {
        match (exercise, urgency) {
            (true, _) => Self::Exercise,
            (false, Urgency::Critical) => Self::Critical,
            (false, _) => Self::Usual,
        }
    }
}

named! {
    /// Where a wave stands.
    "state" WaveState {
        /// Goes out when due.
        Waiting = "waiting",
        /// Is wide: needs a second operator's approval.
        Approval = "approval",
        /// Held back by an operator.
        Held = "held",
        /// Released.
        Released = "released",
        /// The case ended before it went out.
        Withdrawn = "withdrawn",
    }
}

named! {
    /// Why a plan was made.
    "cause" PlanCause {
        /// The case was verified.
        Verified = "verified",
        /// A sighting was accepted.
        SightingAccepted = "sighting_accepted",
        /// A sighting that had been accepted was rejected.
        SightingRejected = "sighting_rejected",
        /// A sighting that had been accepted was withdrawn, or is to be checked again.
        SightingWithdrawn = "sighting_withdrawn",
        /// The credibility of an accepted sighting was changed.
        CredibilityChanged = "credibility_changed",
        /// A searched area was reported.
        AreaSearched = "area_searched",
        /// A searched area that had been reported was withdrawn.
        SearchWithdrawn = "search_withdrawn",
        /// The last known position was corrected in the case.
        LkpCorrected = "lkp_corrected",
        /// Something else that the plan is made from was corrected in the case.
        CaseChanged = "case_changed",
        /// Time had passed, and the next wave was due.
        WaveDue = "wave_due",
        /// An operator asked for it.
        Requested = "requested",
    }
}

impl PlanCause {
    /// What happened, to go after "because".
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Verified => "the case was verified",
            Self::SightingAccepted => "a sighting was accepted",
            Self::SightingRejected => "a sighting that had counted was rejected",
            Self::SightingWithdrawn => {
                "a sighting that had counted was withdrawn or is being checked again"
            }
            Self::CredibilityChanged => "the credibility of a sighting was changed",
            Self::AreaSearched => "an area was searched",
            Self::SearchWithdrawn => "the report of a searched area was withdrawn",
            Self::LkpCorrected => "the last known position was corrected",
            Self::CaseChanged => "the case was corrected",
            Self::WaveDue => "time had passed and the next wave was due",
            Self::Requested => "an operator asked for it",
        }
    }
}

named! {
    /// What an app reports back about a batch.
    "receipt" ReceiptKind {
        /// The app has the batch.
        Taken = "taken",
        /// Reached the phones.
        Delivered = "delivered",
        /// Was opened.
        Opened = "opened",
        /// Not shown, because the phone is outside the area.
        Trimmed = "trimmed",
        /// The token is no longer good.
        TokenGone = "token_gone",
    }
}

/// An alert as the store keeps it; what people read is in its revisions.
#[derive(Debug, Clone)]
pub struct AlertRecord {
    /// Its id.
    pub id: AlertId,
    /// The case it is about.
    pub case: CaseId,
    /// Its urgency.
    pub urgency: Urgency,
    /// Whether it is a drill.
    pub exercise: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was recalled.
    pub closed_at: Option<Timestamp>,
    /// The newest revision.
    pub revision: i64,
    /// When the last of its issues expires.
    pub expires_at: Option<Timestamp>,
    /// When its next sweep is due.
    pub next_sweep_at: Option<Timestamp>,
    /// Rounds released so far.
    pub rounds: i64,
    /// From when the delays of its waves count, as long as no sighting is believed.
    pub waves_from: Timestamp,
}

/// Somebody in the searched cells, as the covering index knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The app that would tell them.
    pub app: AppId,
    /// The app's name for the device.
    pub token: &'a [u8],
    /// The number of the person.
    pub person: PersonNumber,
    /// What they allow.
    pub flags: SubscriberFlags,
    /// The hour (since 1970) in which they were last seen in their cell.
    pub seen_hour: i32,
    /// When they may be disturbed again, in ms since 1970; 0 if at any time.
    pub muted_until_ms: i64,
    /// When the app last wrote, in ms since 1970; known only where several apps share the person.
    pub seen_at_ms: i64,
}

/// What a subscriber allows, as bits of one small number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscriberFlags(pub i32);

impl SubscriberFlags {
    /// Removed; the row remembers the person number for a while.
    pub const DELETED: i32 = 1;
    /// The person is known by a key that apps share.
    pub const SHARED: i32 = 2;
    /// Wants no alerts at all.
    pub const OPTED_OUT: i32 = 4;
    /// Takes part in exercises.
    pub const DRILLS: i32 = 8;
    /// A volunteer.
    pub const VOLUNTEER: i32 = 16;

    /// The bit of who wants no alerts of a kind of case: from the ninth bit on, in the order of
    /// [`CaseKind`].
    #[must_use]
    pub const fn opted_out_of(kind: CaseKind) -> i32 {
        1 << (8 + kind as i32)
    }

    /// Whether a bit is set.
    #[must_use]
    pub const fn has(self, bit: i32) -> bool {
        self.0 & bit != 0
    }
}

/// A batch on its way to an app.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its id; never changes.
    pub id: BatchId,
    /// The app it goes to.
    pub app: AppId,
    /// What it carries.
    pub edition: Edition,
    /// What it is to those it tells.
    pub kind: Kind,
    /// How many people it tells.
    pub people: i64,
    /// Who they are (see the alert room's `recipients`).
    pub recipients: Vec<u8>,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// One revision of an alert as one round spreads it: its batches have the same words and area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edition {
    /// The alert.
    pub alert: AlertId,
    /// Its revision.
    pub revision: i64,
    /// The round.
    pub round: i64,
}

/// What an edition says and where it holds, as the store keeps it.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The alert as people read it (protobuf).
    pub words: Vec<u8>,
    /// The area for the phone (protobuf); empty for a test.
    pub area: Vec<u8>,
}
