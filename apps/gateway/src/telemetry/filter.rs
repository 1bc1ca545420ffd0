//! The filter of the log, which may change while lines are written.
//!
//! `tracing` remembers for each place in the code whether a filter may ever want its lines; a place that none wants costs
//! nothing. The others ask here, behind a lock that is written when the filter changes and never else. That a span is
//! entered or left, which happens with every step of a task, is passed on only to filters that go by spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tracing::Metadata;
use tracing::callsite::rebuild_interest_cache;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::Registry;

/// What other crates say below this is not written, whatever the filter: it may hold what a request held.
const LIBRARIES: LevelFilter = LevelFilter::INFO;

/// Crates whose lines are ours.
const OWN: &str = "stack_";

/// How a filter names spans that it goes by.
const OF_SPANS: char = '[';

type Inner = Box<dyn Filter<Registry> + Send + Sync>;

/// The filter. Cloning shares it.
#[derive(Clone)]
pub(super) struct LiveFilter(Arc<Current>);

struct Current {
    inner: RwLock<Inner>,
    goes_by_spans: AtomicBool,
}

impl LiveFilter {
    /// Wants what this filter wants, which has been checked before.
    pub(super) fn new(filter: &str) -> Self {
        Self(Arc::new(Current {
            inner: RwLock::new(made_of(filter)),
            goes_by_spans: AtomicBool::new(filter.contains(OF_SPANS)),
        }))
    }

    /// Wants this from now on.
    pub(super) fn set(&self, filter: &str) {
        *self.0.inner.write() = made_of(filter);
        let goes_by_spans = filter.contains(OF_SPANS);
        self.0.goes_by_spans.store(goes_by_spans, Ordering::Relaxed);
        rebuild_interest_cache();
        // Libraries that log by `log` look here first.
        let most = LevelFilter::current().to_string();
        log::set_max_level(most.parse().unwrap_or(log::LevelFilter::Trace));
    }

    fn of_spans(&self, tell: impl FnOnce(&Inner)) {
        if self.0.goes_by_spans.load(Ordering::Relaxed) {
            tell(&self.0.inner.read());
        }
    }
}

fn made_of(filter: &str) -> Inner {
    let filter = EnvFilter::new(filter);
    // The most that is written at all is known beforehand, so that what libraries log by the way is not even looked at.
    let most = Filter::<Registry>::max_level_hint(&filter).unwrap_or(LevelFilter::TRACE);
    let own = filter_fn(move |line| {
        let is_own = line.target().starts_with(OWN);
        *line.level() <= most && (is_own || *line.level() <= LIBRARIES)
    });
    Box::new(filter.and(own.with_max_level_hint(most)))
}

impl Filter<Registry> for LiveFilter {
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.inner.read().callsite_enabled(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, Registry>) -> bool {
        self.0.inner.read().enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.inner.read().max_level_hint()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        self.of_spans(|inner| inner.on_new_span(attributes, id, context));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Registry>) {
        self.of_spans(|inner| inner.on_record(id, values, context));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, Registry>) {
        self.of_spans(|inner| inner.on_enter(id, context));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, Registry>) {
        self.of_spans(|inner| inner.on_exit(id, context));
    }

    fn on_close(&self, id: Id, context: Context<'_, Registry>) {
        self.of_spans(|inner| inner.on_close(id, context));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use parking_lot::Mutex;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    use super::*;

    /// Takes lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    fn speak() {
        tracing::info!("said");
        tracing::debug!("whispered");
        tracing::debug!(target: "some_library", "whispered elsewhere");
        let span = tracing::error_span!("listened_to");
        span.in_scope(|| tracing::debug!("whispered there"));
    }

    #[test]
    fn what_is_wanted_may_change() {
        let (filter, lines) = (LiveFilter::new("warn"), Lines::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let set = Registry::default().with(layer.with_filter(filter.clone()));
        tracing::subscriber::with_default(set, || {
            let heard = |wanted: &str| {
                filter.set(wanted);
                speak();
                let told = lines.take();
                let said = ["said", "whispered\n", "elsewhere", "there\n"];
                said.map(|text| told.contains(text))
            };
            assert_eq!(heard("warn"), [false, false, false, false]);
            assert_eq!(heard("info"), [true, false, false, false]);
            assert_eq!(heard("debug"), [true, true, false, true]);
            assert_eq!(
                heard("info,[listened_to]=debug"),
                [true, false, false, true]
            );
            assert_eq!(heard("off"), [false, false, false, false]);
        });
    }
}
