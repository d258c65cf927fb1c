//! The profile of a missing person: what the distance law depends on.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// The kind of missing person, as search and rescue sorts them (Koester, Lost Person Behavior).
    "category" Category {
        /// Dementia of any kind.
        Dementia = "dementia",
        /// A child of 1 to 3 years.
        Child1To3 = "child_1_3",
        /// A child of 4 to 6 years.
        Child4To6 = "child_4_6",
        /// A child of 7 to 9 years.
        Child7To9 = "child_7_9",
        /// A child of 10 to 12 years.
        Child10To12 = "child_10_12",
        /// A child of 13 to 15 years.
        Child13To15 = "child_13_15",
        /// Autism.
        Autism = "autism",
        /// Intellectual disability.
        IntellectualDisability = "intellectual_disability",
        /// In despair, perhaps suicidal.
        Despondent = "despondent",
        /// Mental illness other than despondency.
        MentalIllness = "mental_illness",
        /// Under the influence of a substance.
        SubstanceIntoxication = "substance_intoxication",
        /// Taken by somebody.
        Abduction = "abduction",
        /// An adult of whom no more is known.
        UnknownAdult = "unknown_adult",
        /// A hiker.
        Hiker = "hiker",
        /// A hunter.
        Hunter = "hunter",
        /// A gatherer of berries, mushrooms and the like.
        Gatherer = "gatherer",
        /// A camper.
        Camper = "camper",
        /// A runner.
        Runner = "runner",
        /// A climber.
        Climber = "climber",
        /// An angler.
        Angler = "angler",
        /// A rider of an all-terrain vehicle.
        Atv = "atv",
        /// A horseback rider.
        HorsebackRider = "horseback_rider",
        /// A mountain biker.
        MountainBiker = "mountain_biker",
        /// An alpine skier.
        SkierAlpine = "skier_alpine",
        /// A Nordic skier.
        SkierNordic = "skier_nordic",
        /// A snowboarder.
        Snowboarder = "snowboarder",
    }
}

impl Category {
    /// The kind of case that people know it as.
    #[must_use]
    pub const fn kind(self) -> CaseKind {
        match self {
            Self::Child1To3
            | Self::Child4To6
            | Self::Child7To9
            | Self::Child10To12
            | Self::Child13To15 => CaseKind::Child,
            Self::Dementia => CaseKind::Dementia,
            Self::Autism | Self::IntellectualDisability => CaseKind::Disability,
            Self::Despondent | Self::MentalIllness | Self::SubstanceIntoxication => {
                CaseKind::Crisis
            }
            Self::Abduction => CaseKind::Abduction,
            Self::UnknownAdult => CaseKind::Adult,
            Self::Hiker
            | Self::Hunter
            | Self::Gatherer
            | Self::Camper
            | Self::Runner
            | Self::Climber
            | Self::Angler
            | Self::Atv
            | Self::HorsebackRider
            | Self::MountainBiker
            | Self::SkierAlpine
            | Self::SkierNordic
            | Self::Snowboarder => CaseKind::Outdoors,
        }
    }
}

named! {
    /// The kinds of case that somebody may not want to hear of: categories as people know them.
    "kind" CaseKind {
        /// A child of up to 15 years.
        Child = "child",
        /// Dementia.
        Dementia = "dementia",
        /// Autism or intellectual disability.
        Disability = "disability",
        /// Despair, mental illness or intoxication.
        Crisis = "crisis",
        /// Somebody was taken.
        Abduction = "abduction",
        /// An adult of whom no more is known.
        Adult = "adult",
        /// Somebody out in the country: hikers, hunters, skiers and the like.
        Outdoors = "outdoors",
    }
}

named! {
    /// The kind of country round the last known position.
    "environment" Environment {
        /// Town or city.
        Urban = "urban",
        /// Temperate, hilly or mountainous.
        TemperateMountain = "temperate_mountain",
        /// Dry, flat or mountainous.
        Dry = "dry",
        /// Dry and flat.
        DryFlat = "dry_flat",
        /// Dry and mountainous.
        DryMountain = "dry_mountain",
        /// Anything else, or not known.
        Default = "default",
    }
}

named! {
    /// How the person gets about.
    "mobility" Mobility {
        /// On foot, unhindered.
        Normal = "normal",
        /// On foot, slow or frail.
        Reduced = "reduced",
        /// In a wheelchair moved by hand.
        WheelchairManual = "wheelchair_manual",
        /// In a powered wheelchair.
        WheelchairPowered = "wheelchair_powered",
    }
}

/// What the distance law depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The kind of missing person.
    pub category: Category,
    /// Age in years, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u8>,
    /// How the person gets about.
    pub mobility: Mobility,
    /// The country round the last known position.
    pub environment: Environment,
}
