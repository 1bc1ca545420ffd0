//! Auth against a store in memory, with a clock that is moved by hand.

#[cfg(test)]
mod account;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod support;
