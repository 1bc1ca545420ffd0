//! How a record becomes bytes: one byte of version, then postcard.
//!
//! A field is added at the end with a new version; `decode` of an older version is then written beside it. There
//! is one version so far.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

const VERSION: u8 = 1;

/// The bytes of `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION]).map_err(StoreError::damaged)
}

/// The value that `bytes` hold.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(StoreError::damaged),
        Some((version, _)) => Err(StoreError::damaged(format!(
            "record version {version} is unknown"
        ))),
        None => Err(StoreError::damaged("record is empty")),
    }
}
