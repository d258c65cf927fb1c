//! Who a batch tells, as the store keeps it.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::stored;
use crate::model::PersonNumber;

/// The number of `AlertBatch`'s field `tokens`.
const TOKENS: u32 = 3;

/// The form in which recipients are stored. Tokens are written from where they lie, because an
/// allocation for each would cost more than all that is decided about them.
#[must_use]
pub fn encode(people: &[(PersonNumber, &[u8])]) -> Vec<u8> {
    // A key and a length before each.
    let bytes = people.iter().map(|(_, token)| token.len() + 3).sum();
    let mut tokens = Vec::with_capacity(bytes);
    for (_, token) in people {
        encode_key(TOKENS, WireType::LengthDelimited, &mut tokens);
        encode_varint(token.len() as u64, &mut tokens);
        tokens.extend_from_slice(token);
    }
    let persons = people.iter().map(|(person, _)| person.0).collect();
    stored::Recipients { tokens, persons }.encode_to_vec()
}

/// The persons whom stored recipients name, in the order of their tokens.
///
/// # Errors
/// [`prost::DecodeError`] if the bytes are of another form.
pub fn persons(bytes: &[u8]) -> Result<Vec<PersonNumber>, prost::DecodeError> {
    let stored::Recipients { persons, .. } = stored::Recipients::decode(bytes)?;
    Ok(persons.into_iter().map(PersonNumber).collect())
}

/// The tokens of stored recipients, as an `AlertBatch` of nothing else (protobuf).
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
    use crate::alert::proto::v1::AlertBatch;

    proptest! {
        #[test]
        fn what_is_stored_comes_back(
            people in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), any::<i64>()), 0..50)
        ) {
            let (names, numbers): (Vec<_>, Vec<_>) =
                people.into_iter().map(|(token, person)| (token, PersonNumber(person))).unzip();
            let people: Vec<_> =
                numbers.iter().copied().zip(names.iter().map(Vec::as_slice)).collect();
            let stored = encode(&people);
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
