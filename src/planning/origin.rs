//! From when the delays of the waves count: pure.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::model::{Sighting, SightingId};

/// From when the delays of the waves count, and since when each sighting is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Since when the newest sighting that is believed has been; if none is, since when the last known
    /// position is known.
    pub from: Timestamp,
    /// Since when the last known position is known.
    pub lkp_from: Timestamp,
    /// The sightings that are believed since another moment than was kept with them, or no longer.
    pub changed: Vec<(SightingId, Option<Timestamp>)>,
}

impl Origin {
    /// The origin of a plan made `now` that believes these of the case's sightings, for an alert that is
    /// open since `opened_at`. While a case is paused, `now` stands still.
    #[must_use]
    pub fn of(
        sightings: &[Sighting],
        believed: &HashSet<SightingId>,
        lkp_from: Timestamp,
        opened_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let since = |sighting: &Sighting| {
            // Of an alert before this one it says nothing.
            let kept = sighting.believed_since.filter(|since| *since >= opened_at);
            believed.contains(&sighting.id).then(|| kept.unwrap_or(now))
        };
        let newest = sightings
            .iter()
            .filter_map(|sighting| Some((sighting.seen_at, since(sighting)?)))
            .max();
        let changed = sightings
            .iter()
            .map(|sighting| (sighting, since(sighting)))
            .filter(|(sighting, since)| sighting.believed_since != *since)
            .map(|(sighting, since)| (sighting.id, since));
        Self {
            from: newest.map_or(lkp_from, |(_, since)| since),
            lkp_from,
            changed: changed.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::{CaseId, SightingSource, SightingState};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn seen(seen_at: i64, believed_since: Option<i64>) -> Sighting {
        Sighting {
            id: SightingId::fresh(),
            case: CaseId::fresh(),
            reported_by: "operator Ann".into(),
            source: SightingSource::Phone,
            seen_at: at(seen_at),
            received_at: at(seen_at),
            credibility: 0.5,
            state: SightingState::Accepted,
            believed_since: believed_since.map(at),
            report: None,
        }
    }

    /// The delays' beginning and what changes, in minutes, with these of the sightings believed, at 60.
    fn origin(sightings: &[Sighting], believed: &[usize]) -> (i64, Vec<(usize, Option<i64>)>) {
        let minutes = |at: Timestamp| at.as_second() / 60;
        let ids = believed.iter().map(|place| sightings[*place].id).collect();
        let origin = Origin::of(sightings, &ids, at(10), at(5), at(60));
        let place = |id| sightings.iter().position(|one| one.id == id).unwrap();
        let changed = origin.changed.into_iter();
        (
            minutes(origin.from),
            changed
                .map(|(id, since)| (place(id), since.map(minutes)))
                .collect(),
        )
    }

    #[test]
    fn delays_count_from_the_newest_sighting_that_is_believed() {
        assert_eq!(origin(&[], &[]), (10, vec![]));
        let seen = [seen(30, Some(50)), seen(40, Some(45)), seen(20, None)];
        assert_eq!(origin(&seen, &[0, 1]), (45, vec![]));
        // One from before that comes in now delays nothing.
        assert_eq!(origin(&seen, &[0, 1, 2]), (45, vec![(2, Some(60))]));
        // As if the newest had never come, and as if none had.
        assert_eq!(origin(&seen, &[0]), (50, vec![(1, None)]));
        assert_eq!(origin(&seen, &[]), (10, vec![(0, None), (1, None)]));
    }

    #[test]
    fn a_sighting_counts_from_when_it_is_believed() {
        assert_eq!(origin(&[seen(30, None)], &[0]), (60, vec![(0, Some(60))]));
        // That another alert was told of it does not make it old to this one.
        assert_eq!(origin(&[seen(1, Some(2))], &[0]), (60, vec![(0, Some(60))]));
    }
}
