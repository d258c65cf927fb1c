//! An alert as apps get it, put together from its parts.

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;

use super::proto::v1;
use super::recipients::{self, InvalidRecipients};
use super::text;
use crate::model::{AlertId, Batch, Kind, Report, Urgency};

/// How long a test alert may be shown.
pub const TEST_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// One revision of an alert, from issue to recall.
#[derive(Clone, Copy)]
pub struct Revision<'a> {
    /// The alert.
    pub alert: AlertId,
    /// Rises with every issue, update and recall of the alert.
    pub number: i64,
    /// What it says.
    pub kind: Kind,
    /// The urgency granted.
    pub urgency: Urgency,
    /// Whether it is a drill.
    pub exercise: bool,
    /// The report; none if it was erased.
    pub report: Option<&'a Report>,
    /// The IANA time zone of the case's area.
    pub time_zone: &'a str,
    /// Now.
    pub issued_at: Timestamp,
    /// Not to be shown after this.
    pub expires_at: Timestamp,
}

/// What people read and what their phones do with it, without the area.
#[must_use]
pub fn compose(revision: &Revision<'_>) -> v1::Alert {
    let Revision {
        alert,
        number,
        kind,
        urgency,
        exercise,
        report,
        time_zone,
        ..
    } = *revision;
    v1::Alert {
        alert_id: alert.to_string(),
        // A count of revisions; it starts at 1 and never comes near the limit.
        revision: u32::try_from(number).unwrap_or(u32::MAX),
        kind: v1::Kind::from(kind).into(),
        urgency: v1::Urgency::from(urgency).into(),
        intrusion: intrusion(kind, urgency, exercise).into(),
        exercise,
        issued_at_s: revision.issued_at.as_second(),
        expires_at_s: revision.expires_at.as_second(),
        texts: text::texts(kind, exercise, report, time_zone),
        area: None,
        collapse_key: alert.to_string(),
    }
}

/// A test of an app's way to its phones, in every language; belongs to no case.
#[must_use]
pub fn test_alert(alert: AlertId, now: Timestamp) -> v1::Alert {
    let id = alert.to_string();
    v1::Alert {
        alert_id: id.clone(),
        revision: 1,
        kind: v1::Kind::Test.into(),
        urgency: v1::Urgency::Normal.into(),
        intrusion: intrusion(Kind::Test, Urgency::Normal, false).into(),
        exercise: false,
        issued_at_s: now.as_second(),
        expires_at_s: now.saturating_add(TEST_LIFETIME).unwrap_or(now).as_second(),
        texts: text::texts(Kind::Test, false, None, "UTC"),
        area: None,
        collapse_key: id,
    }
}

/// How far a notice may intrude: only a critical issue breaks through, and never for a drill; a
/// recall makes no sound.
const fn intrusion(kind: Kind, urgency: Urgency, exercise: bool) -> v1::Intrusion {
    match (kind, urgency, exercise) {
        (Kind::Recall, ..) => v1::Intrusion::Silent,
        (Kind::Issue, Urgency::Critical, false) => v1::Intrusion::TimeSensitive,
        _ => v1::Intrusion::Normal,
    }
}

impl From<Kind> for v1::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Issue => Self::Issue,
            Kind::Update => Self::Update,
            Kind::Recall => Self::Recall,
            Kind::Test => Self::Test,
        }
    }
}

impl From<Urgency> for v1::Urgency {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Normal => Self::Normal,
            Urgency::High => Self::High,
            Urgency::Critical => Self::Critical,
        }
    }
}

/// A stored batch that cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// What people read is not in the form it is stored in.
    #[error("reading a batch's alert: {0}")]
    Content(prost::DecodeError),
    /// Nor is the area.
    #[error("reading a batch's area: {0}")]
    Area(prost::DecodeError),
    /// Nor are the recipients.
    #[error(transparent)]
    Recipients(#[from] InvalidRecipients),
}

/// A stored batch as it leaves the house: what people read, where it holds, whom to tell.
///
/// The alert expires when the batch does, and is to its readers what the batch is: later waves share
/// the words of the newest revision, but are an issue to those who read them first.
///
/// # Errors
/// [`InvalidBatch`] names the part that is not in the form it is stored in.
pub fn batch(batch: &Batch) -> Result<v1::AlertBatch, InvalidBatch> {
    let mut alert = v1::Alert::decode(batch.content.as_slice()).map_err(InvalidBatch::Content)?;
    // A recall is for everybody who was told, wherever they are by now.
    if batch.kind != Kind::Recall && !batch.area.is_empty() {
        let area = v1::Area::decode(batch.area.as_slice()).map_err(InvalidBatch::Area)?;
        alert.area = Some(area);
    }
    alert.expires_at_s = batch.expires_at.as_second();
    alert.kind = v1::Kind::from(batch.kind).into();
    let tokens = recipients::decode(&batch.recipients)?.tokens;
    Ok(v1::AlertBatch {
        batch_id: batch.id.to_string(),
        alert: Some(alert),
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::area;
    use super::super::text::tests::report;
    use super::*;
    use crate::model::{BatchId, Cell, Language, PersonNumber, Position, PublishedField};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn revision(kind: Kind, report: Option<&Report>) -> Revision<'_> {
        Revision {
            alert: AlertId::fresh(),
            number: 3,
            kind,
            urgency: Urgency::Critical,
            exercise: false,
            report,
            time_zone: "Europe/London",
            issued_at: at(1_000),
            expires_at: at(2_000),
        }
    }

    #[test]
    fn an_alert_says_what_it_is() {
        let report = report(PublishedField::ALL, &[Language::English]);
        let revision = revision(Kind::Issue, Some(&report));
        let alert = compose(&revision);
        assert_eq!(alert.alert_id, revision.alert.to_string());
        assert_eq!(alert.collapse_key, alert.alert_id);
        assert_eq!(
            (alert.revision, alert.issued_at_s, alert.expires_at_s),
            (3, 1_000, 2_000)
        );
        assert_eq!(
            (alert.kind(), alert.urgency()),
            (v1::Kind::Issue, v1::Urgency::Critical)
        );
        assert_eq!((alert.area, alert.texts.len()), (None, 1));
    }

    proptest! {
        #[test]
        fn only_a_critical_issue_that_is_no_drill_breaks_through(
            kind in prop::sample::select(Kind::ALL),
            urgency in prop::sample::select(Urgency::ALL),
            exercise in any::<bool>(),
        ) {
            let critical = Revision { urgency, exercise, ..revision(kind, None) };
            let breaks = compose(&critical).intrusion() == v1::Intrusion::TimeSensitive;
            let may = kind == Kind::Issue && urgency == Urgency::Critical && !exercise;
            prop_assert_eq!(breaks, may);
        }
    }

    #[test]
    fn later_revisions_replace_the_first_and_a_recall_is_silent() {
        let issue = revision(Kind::Issue, None);
        let recall = Revision {
            kind: Kind::Recall,
            number: 4,
            ..issue
        };
        assert_eq!(compose(&issue).collapse_key, compose(&recall).collapse_key);
        assert_eq!(compose(&recall).intrusion(), v1::Intrusion::Silent);
    }

    #[test]
    fn a_test_belongs_to_no_case() {
        let id = AlertId::fresh();
        let test = test_alert(id, at(1_000));
        assert_eq!(
            (test.kind(), test.intrusion()),
            (v1::Kind::Test, v1::Intrusion::Normal)
        );
        assert_eq!(test.texts.len(), Language::ALL.len());
        assert_eq!(
            test.expires_at_s - test.issued_at_s,
            TEST_LIFETIME.as_secs()
        );
        assert_eq!(test.alert_id, id.to_string());
    }

    fn stored() -> Batch {
        let alert = compose(&revision(Kind::Issue, None));
        let cell = Cell::at(Position::new(57.1, -2.1).unwrap(), h3o::Resolution::Nine);
        Batch {
            id: BatchId::fresh(),
            app: crate::model::AppId(1),
            alert: AlertId::fresh(),
            revision: 3,
            kind: Kind::Issue,
            people: 1,
            recipients: recipients::encode(vec![b"token".to_vec()], &[PersonNumber(9)]),
            content: alert.encode_to_vec(),
            area: area::area(&[cell]).encode_to_vec(),
            expires_at: at(9_000),
        }
    }

    #[test]
    fn a_batch_is_put_together() {
        let stored = stored();
        let sent = batch(&stored).unwrap();
        assert_eq!(sent.batch_id, stored.id.to_string());
        assert_eq!(sent.tokens, [b"token".to_vec()]);
        let alert = sent.alert.unwrap();
        assert_eq!(alert.expires_at_s, 9_000);
        assert_eq!(alert.area.unwrap().cells.len(), 1);
        let recall = Batch {
            kind: Kind::Recall,
            ..stored
        };
        assert_eq!(batch(&recall).unwrap().alert.unwrap().area, None);
    }

    #[test]
    fn a_broken_part_is_named() {
        let broken = || b"\xff\xff\xff".to_vec();
        let content = Batch {
            content: broken(),
            ..stored()
        };
        assert!(matches!(batch(&content), Err(InvalidBatch::Content(_))));
        let area = Batch {
            area: broken(),
            ..stored()
        };
        assert!(matches!(batch(&area), Err(InvalidBatch::Area(_))));
        let recipients = Batch {
            recipients: broken(),
            ..stored()
        };
        assert!(matches!(
            batch(&recipients),
            Err(InvalidBatch::Recipients(_))
        ));
    }
}
