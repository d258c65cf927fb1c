//! Who a batch tells, as the store keeps it.

use prost::Message as _;

use super::stored;
use crate::model::PersonNumber;

/// Who a batch tells: an app's tokens, and the persons behind them in the same order.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipients {
    /// The app's own tokens.
    pub tokens: Vec<Vec<u8>>,
    /// The person behind each token.
    pub persons: Vec<PersonNumber>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipients({})", self.tokens.len())
    }
}

/// Stored recipients that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecipients {
    /// Not the form they are stored in.
    #[error("reading a batch's recipients: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// As many tokens as persons were expected.
    #[error("a batch has {tokens} tokens but {persons} persons")]
    Uneven {
        /// Tokens found.
        tokens: usize,
        /// Persons found.
        persons: usize,
    },
}

/// The form in which recipients are stored. Tokens and persons are in the same order.
#[must_use]
pub fn encode(tokens: Vec<Vec<u8>>, persons: &[PersonNumber]) -> Vec<u8> {
    let persons = persons.iter().map(|person| person.0).collect();
    stored::Recipients { tokens, persons }.encode_to_vec()
}

/// Reads recipients back from the store.
///
/// # Errors
/// [`InvalidRecipients`] if the bytes are of another form, or tokens and persons do not pair up.
pub fn decode(bytes: &[u8]) -> Result<Recipients, InvalidRecipients> {
    let stored::Recipients { tokens, persons } = stored::Recipients::decode(bytes)?;
    if tokens.len() != persons.len() {
        let (tokens, persons) = (tokens.len(), persons.len());
        return Err(InvalidRecipients::Uneven { tokens, persons });
    }
    Ok(Recipients {
        tokens,
        persons: persons.into_iter().map(PersonNumber).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_stored_comes_back(
            people in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), any::<i64>()), 0..50)
        ) {
            let (tokens, persons): (Vec<_>, Vec<_>) =
                people.into_iter().map(|(token, person)| (token, PersonNumber(person))).unzip();
            let stored = encode(tokens.clone(), &persons);
            prop_assert_eq!(decode(&stored), Ok(Recipients { tokens, persons }));
        }
    }

    #[test]
    fn what_does_not_pair_up_is_refused() {
        let stored = encode(vec![b"a".to_vec()], &[]);
        assert_eq!(
            decode(&stored),
            Err(InvalidRecipients::Uneven {
                tokens: 1,
                persons: 0
            })
        );
        assert!(matches!(
            decode(b"\xff\xff\xff"),
            Err(InvalidRecipients::Malformed(_))
        ));
    }

    #[test]
    fn debug_does_not_tell_tokens() {
        let recipients = Recipients {
            tokens: vec![b"t".to_vec()],
            persons: vec![PersonNumber(7)],
        };
        assert_eq!(format!("{recipients:?}"), "Recipients(1)");
    }
}
