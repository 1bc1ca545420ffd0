//! What every transport must do, and what those with a wire must do beyond that.

#![cfg_attr(
    any(feature = "with-nng", feature = "with-zmq"),
    expect(clippy::unwrap_used, reason = "a test that cannot go on fails")
)]

mod conformance;

#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
mod support;
#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
mod wire;
