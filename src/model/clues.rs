//! What a report says of where somebody may have gone, beside where they were last seen.

use serde::{Deserialize, Serialize};

use super::Position;
use super::named::named;

named! {
    /// How a person left.
    "transport" Transport {
        /// Surely on foot, or in a wheelchair.
        OnFoot = "on_foot",
        /// Not known, and nothing speaks for a vehicle: planned for as on foot.
        Unknown = "unknown",
        /// Not known, but there is a sign of a vehicle, such as a missing car or a card used on a bus.
        SignOfVehicle = "sign_of_vehicle",
        /// By vehicle or public transport.
        VehicleOrTransit = "vehicle_or_transit",
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "named! derives the same for all enums"
)]
impl Default for Transport {
    fn default() -> Self {
        Self::Unknown
    }
}

named! {
    /// What a place is to a person.
    "kind" PlaceKind {
        /// Where the person lives.
        Home = "home",
        /// Where the person lived before.
        FormerHome = "former_home",
        /// Where the person works or worked.
        Work = "work",
        /// Where the person likes to be.
        Favourite = "favourite",
    }
}

named! {
    /// A schedule by which an area is released, whatever its probability.
    "policy" Policy {
        /// Circles of 100, 200, 300 and 500 km, as China's child alert draws them.
        AbductionByVehicle = "abduction_by_vehicle",
    }
}

/// A place that a person may be drawn to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownPlace {
    /// What it is to the person.
    pub kind: PlaceKind,
    /// Where it is.
    pub position: Position,
    /// How likely the person is there, 0 to 1. All places together count for 0.10 to 0.25.
    pub weight: f64,
}

/// What a report says of where the person may have gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clues {
    /// How the person left.
    pub transport: Transport,
    /// Where the person was heading, in degrees clockwise from north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heading_deg: Option<f64>,
    /// Places the person may be drawn to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_places: Vec<KnownPlace>,
    /// A schedule by which the area is released instead of by its probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}
