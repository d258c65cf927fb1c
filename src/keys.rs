//! Access keys: made from random bits, kept as a hash, limited in rate.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::model::{Caller, Holder, KeyId};
use crate::store::{Store, StoreError, Tx, holders};

/// Random bytes in a key: more than anybody can guess, so a plain hash protects it.
const SECRET_BYTES: usize = 32;

/// A key that was just made. The secret is shown once and never kept.
#[derive(Debug)]
pub struct NewKey {
    /// The key's id.
    pub id: KeyId,
    /// What the holder presents as `Authorization: Bearer`.
    pub secret: SecretString,
}

/// Makes a key for a holder.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn make(tx: &mut Tx, holder: &Holder, now: Timestamp) -> Result<NewKey, StoreError> {
    let bytes: [u8; SECRET_BYTES] = rand::random();
    let secret = format!("hw_{}_{}", holder.scope(), hex::encode(bytes));
    let id = KeyId::fresh();
    holders::add_key(tx, id, holder, &hash(&secret), now).await?;
    Ok(NewKey {
        id,
        secret: secret.into(),
    })
}

/// Who presents this key; `None` if nobody may with it.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn caller(store: &Store, secret: &SecretString) -> Result<Option<Caller>, StoreError> {
    let mut session = store.read().await?;
    let now = session.now().await?;
    holders::caller(&mut session, &hash(secret.expose_secret()), now).await
}

/// The key in an `Authorization` header.
#[must_use]
pub fn bearer(header: &str) -> Option<SecretString> {
    let (scheme, key) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| SecretString::from(key.trim().to_owned()))
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// How often each key may be used.
#[derive(Debug)]
pub struct RateLimits(DefaultKeyedRateLimiter<KeyId>);

impl RateLimits {
    /// Limits as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let rate = NonZeroU32::new(config.requests_per_s).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(config.requests_burst).unwrap_or(NonZeroU32::MIN);
        Self(RateLimiter::keyed(
            Quota::per_second(rate).allow_burst(burst),
        ))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait if the key was used too often.
    pub fn check(&self, key: KeyId) -> Result<(), Duration> {
        self.0
            .check_key(&key)
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets keys not used lately; the limiter never shrinks by itself.
    pub fn shrink(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_holds_a_key() {
        assert_eq!(bearer("Bearer abc").unwrap().expose_secret(), "abc");
        assert_eq!(bearer("bearer  abc ").unwrap().expose_secret(), "abc");
        assert!(bearer("Basic abc").is_none());
        assert!(bearer("abc").is_none());
    }

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        let mut config = Config::defaults().unwrap();
        config.requests_per_s = 1;
        config.requests_burst = 2;
        let limits = RateLimits::new(&config);
        let (one, two) = (KeyId::fresh(), KeyId::fresh());
        assert!(limits.check(one).is_ok() && limits.check(one).is_ok());
        assert!(limits.check(one).unwrap_err() > Duration::ZERO);
        assert!(limits.check(two).is_ok());
    }
}
