//! Auth against a store in memory, with a clock that is moved by hand.

#[cfg(test)]
mod account;
#[cfg(test)]
mod authenticator;
#[cfg(test)]
mod enumeration;
#[cfg(test)]
mod erasure;
#[cfg(test)]
mod invites;
#[cfg(test)]
mod keeper;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod passkeys;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod totp;
#[cfg(test)]
mod users;
