//! How far long work has got, for whoever watches a terminal. Where standard error is none, nothing is shown.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often something moves while nothing is counted.
const TICK: Duration = Duration::from_millis(120);

/// A bar. It is gone when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of bytes, as many as there are if that is known.
    pub(super) fn bytes(what: &'static str, all: Option<u64>) -> Self {
        match all {
            Some(all) => Self::new(all, what, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}"),
            None => Self::spinning(what, "{spinner} {msg} {bytes}"),
        }
    }

    /// Of something that is counted.
    pub(super) fn count(what: &'static str) -> Self {
        Self::new(0, what, "{msg} {wide_bar} {pos}/{len} {eta}")
    }

    /// Of something that nobody can count.
    pub(super) fn waiting(what: &'static str) -> Self {
        Self::spinning(what, "{spinner} {msg}")
    }

    fn new(all: u64, what: &'static str, template: &str) -> Self {
        Self(styled(ProgressBar::new(all), what, template))
    }

    fn spinning(what: &'static str, template: &str) -> Self {
        let bar = styled(ProgressBar::new_spinner(), what, template);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So many more.
    pub(super) fn more(&self, count: u64) {
        self.0.inc(count);
    }

    /// So many of all.
    pub(super) fn at(&self, count: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    // A template of ours that is none would show as the library's own.
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what)
}
