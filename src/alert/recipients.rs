//! Who a batch tells, as the store keeps it.

use prost::Message as _;

use super::proto::v1::AlertBatch;
use super::stored;
use crate::model::PersonNumber;

/// The form in which recipients are stored. Tokens and persons are in the same order.
#[must_use]
pub fn encode(tokens: Vec<Vec<u8>>, persons: &[PersonNumber]) -> Vec<u8> {
    let tokens = AlertBatch {
        tokens,
        ..AlertBatch::default()
    };
    let persons = persons.iter().map(|person| person.0).collect();
    stored::Recipients {
        tokens: tokens.encode_to_vec(),
        persons,
    }
    .encode_to_vec()
}

/// The persons whom stored recipients name, in the order of their tokens.
///
/// # Errors
/// [`prost::DecodeError`] if the bytes are of another form.
pub fn persons(bytes: &[u8]) -> Result<Vec<PersonNumber>, prost::DecodeError> {
    let stored::Recipients { persons, .. } = stored::Recipients::decode(bytes)?;
    Ok(persons.into_iter().map(PersonNumber).collect())
}

/// The tokens of stored recipients, as an [`AlertBatch`] of nothing else (protobuf).
///
/// # Errors
/// [`prost::DecodeError`] if the bytes are of another form.
pub fn tokens(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    Ok(stored::Recipients::decode(bytes)?.tokens)
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
            let (names, numbers): (Vec<_>, Vec<_>) =
                people.into_iter().map(|(token, person)| (token, PersonNumber(person))).unzip();
            let stored = encode(names.clone(), &numbers);
            prop_assert_eq!(persons(&stored), Ok(numbers));
            let batch = AlertBatch::decode(tokens(&stored).unwrap().as_slice()).unwrap();
            prop_assert_eq!(batch, AlertBatch { tokens: names, ..AlertBatch::default() });
        }
    }

    #[test]
    fn what_is_of_another_form_is_refused() {
        assert!(persons(b"\xff\xff\xff").is_err());
        assert!(tokens(b"\xff\xff\xff").is_err());
    }
}
