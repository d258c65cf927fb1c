//! An alert as apps get it, put together from its parts.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use prost::bytes::Bytes;

use super::proto::v1;
use super::{recipients, stored, text};
use crate::model::{AlertId, Batch, Contents, Edition, Kind, Report, Urgency};

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
    /// There is no such revision.
    #[error("a batch's alert is not there")]
    Missing,
    /// What people read is not in the form it is stored in.
    #[error("reading a batch's alert: {0}")]
    Words(prost::DecodeError),
    /// Nor is the area.
    #[error("reading a batch's area: {0}")]
    Area(prost::DecodeError),
    /// Nor are the recipients.
    #[error("reading a batch's recipients: {0}")]
    Recipients(prost::DecodeError),
}

/// Writes batches out as they leave the house: what people read, where it holds, whom to tell.
///
/// The alert expires when the batch does, and is to its readers what the batch is: later waves share
/// the words of the newest revision, but are an issue to those who read them first. It is written once for
/// all batches that carry the same.
pub struct Writer {
    editions: HashMap<Edition, Contents>,
    written: HashMap<(Edition, Kind, Timestamp), Bytes>,
}

impl Writer {
    /// A writer of batches of these editions.
    #[must_use]
    pub fn new(editions: HashMap<Edition, Contents>) -> Self {
        Self {
            editions,
            written: HashMap::new(),
        }
    }

    /// A batch as `homeward.v1.AlertBatch` (protobuf).
    ///
    /// # Errors
    /// [`InvalidBatch`] names the part that is not in the form it is stored in.
    pub fn write(&mut self, batch: &Batch) -> Result<Vec<u8>, InvalidBatch> {
        let head = stored::Head {
            batch_id: batch.id.to_string(),
            alert: self.alert(batch)?,
        };
        let tokens = recipients::tokens(&batch.recipients).map_err(InvalidBatch::Recipients)?;
        let mut body = head.encode_to_vec();
        body.extend_from_slice(&tokens);
        Ok(body)
    }

    fn alert(&mut self, batch: &Batch) -> Result<Bytes, InvalidBatch> {
        let key = (batch.edition, batch.kind, batch.expires_at);
        if let Some(alert) = self.written.get(&key) {
            return Ok(alert.clone());
        }
        let contents = self.editions.get(&batch.edition);
        let contents = contents.ok_or(InvalidBatch::Missing)?;
        let alert = alert(contents, batch.kind, batch.expires_at)?.encode_to_vec();
        let alert = Bytes::from(alert);
        self.written.insert(key, alert.clone());
        Ok(alert)
    }
}

fn alert(
    contents: &Contents,
    kind: Kind,
    expires_at: Timestamp,
) -> Result<v1::Alert, InvalidBatch> {
    let words = contents.words.as_slice();
    let mut alert = v1::Alert::decode(words).map_err(InvalidBatch::Words)?;
    // A recall is for everybody who was told, wherever they are by now.
    if kind != Kind::Recall && !contents.area.is_empty() {
        let area = v1::Area::decode(contents.area.as_slice()).map_err(InvalidBatch::Area)?;
        alert.area = Some(area);
    }
    alert.expires_at_s = expires_at.as_second();
    alert.kind = v1::Kind::from(kind).into();
    Ok(alert)
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

    fn stored() -> (Batch, Contents) {
        let alert = compose(&revision(Kind::Issue, None));
        let cell = Cell::at(Position::new(57.1, -2.1).unwrap(), h3o::Resolution::Nine);
        let edition = Edition {
            alert: AlertId::fresh(),
            revision: 3,
            round: 1,
        };
        let batch = Batch {
            id: BatchId::fresh(),
            app: crate::model::AppId(1),
            edition,
            kind: Kind::Issue,
            people: 1,
            recipients: recipients::encode(&[(PersonNumber(9), b"token")]),
            expires_at: at(9_000),
        };
        let contents = Contents {
            words: alert.encode_to_vec(),
            area: area::area(&[cell]).encode_to_vec(),
        };
        (batch, contents)
    }

    fn written(batch: &Batch, contents: Contents) -> Result<v1::AlertBatch, InvalidBatch> {
        let mut writer = Writer::new(HashMap::from([(batch.edition, contents)]));
        let first = writer.write(batch)?;
        assert_eq!(writer.write(batch).unwrap(), first, "not the same again");
        Ok(v1::AlertBatch::decode(first.as_slice()).unwrap())
    }

    #[test]
    fn a_batch_is_put_together() {
        let (batch, contents) = stored();
        let sent = written(&batch, contents.clone()).unwrap();
        assert_eq!(sent.batch_id, batch.id.to_string());
        assert_eq!(sent.tokens, [b"token".to_vec()]);
        let alert = sent.alert.unwrap();
        assert_eq!(alert.expires_at_s, 9_000);
        assert_eq!(alert.area.unwrap().cells.len(), 1);
        let recall = Batch {
            kind: Kind::Recall,
            ..batch
        };
        let recalled = written(&recall, contents).unwrap().alert.unwrap();
        assert_eq!((recalled.kind(), recalled.area), (v1::Kind::Recall, None));
    }

    #[test]
    fn one_writer_keeps_apart_what_batches_say() {
        let (batch, contents) = stored();
        let later = Batch {
            kind: Kind::Update,
            expires_at: at(9_500),
            ..batch.clone()
        };
        let mut writer = Writer::new(HashMap::from([(batch.edition, contents)]));
        let mut said = |batch: &Batch| {
            let body = writer.write(batch).unwrap();
            let alert = v1::AlertBatch::decode(body.as_slice())
                .unwrap()
                .alert
                .unwrap();
            (alert.kind(), alert.expires_at_s)
        };
        assert_eq!(said(&batch), (v1::Kind::Issue, 9_000));
        assert_eq!(said(&later), (v1::Kind::Update, 9_500));
        let unknown = Batch {
            edition: Edition {
                round: 2,
                ..batch.edition
            },
            ..batch
        };
        assert_eq!(writer.write(&unknown), Err(InvalidBatch::Missing));
    }

    #[test]
    fn a_broken_part_is_named() {
        let broken = || b"\xff\xff\xff".to_vec();
        let (batch, contents) = stored();
        let words = Contents {
            words: broken(),
            ..contents.clone()
        };
        assert!(matches!(
            written(&batch, words),
            Err(InvalidBatch::Words(_))
        ));
        let area = Contents {
            area: broken(),
            ..contents.clone()
        };
        assert!(matches!(written(&batch, area), Err(InvalidBatch::Area(_))));
        let recipients = Batch {
            recipients: broken(),
            ..batch
        };
        assert!(matches!(
            written(&recipients, contents),
            Err(InvalidBatch::Recipients(_))
        ));
    }
}
