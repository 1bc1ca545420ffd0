//! Rooms as JSON lines, out and in: what `export` and `import` do at the end that has the file, be it a gateway that
//! runs or the command line on its own. `docs/EXPORT.md` is the format.
//!
//! What holds: an export is what readers of the rooms get, byte for byte. An import comes in as a whole or not at all,
//! takes the place of nothing, and gives nobody a way in: whoever has no account gets a placeholder that cannot be
//! signed in to, and roles are given to those who have one, where the operator says so.

mod export;
mod import;
pub(crate) mod line;

pub(crate) use export::Exporter;
pub(crate) use import::Importer;
