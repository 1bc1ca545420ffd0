//! Rooms over a store in memory, with a clock that is moved by hand and readers that keep what they were told.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod bans;
#[cfg(test)]
mod create;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod history;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod members;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod support;
