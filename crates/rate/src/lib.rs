//! How often somebody may do something: token buckets in bounded maps, with an injected clock.
//!
//! A [`Limiter`] holds one bucket per key and works without a task or a timer. Its memory is bounded whatever
//! arrives, and a flood of new keys never frees a key that has used up its bucket. Counters that must outlive a
//! restart stand in storage, not here.

mod key;
mod limiter;
mod quota;

pub use key::{CallerKey, IpKey};
pub use limiter::{DEFAULT_CAPACITY, Limiter, RetryAfter};
pub use quota::{Quota, Quotas};
