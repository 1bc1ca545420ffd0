//! What a soak says: whether memory and latencies stayed where they were.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::plan::{SOAK, SOAK_CACHE_MIB, Subject};
use super::results::{Results, Run, median};
use super::table::{duration, figure, mark};
use crate::usage::LATE;

/// The first third is warm-up for memory: caches fill, the file's first blocks are written.
const THIRDS: usize = 3;

/// Resident memory may grow by so much of itself a minute after the warm-up, by the straight line through its
/// windows: less is the noise of an allocator, more would add a third within an hour.
const RSS_GROWTH_A_MINUTE: f64 = 0.005;

/// The last third's p99 by the first's, each the median of its windows.
const P99_GROWTH: f64 = 1.25;

/// A number of every window, with its time in seconds.
pub(crate) fn points(soaked: &Results, path: &str) -> Vec<(f64, f64)> {
    let run = soaked.of(SOAK, Subject::Gateway).next();
    let windows = run.and_then(|run| run.result.get("windows")?.as_array());
    let point = |window: &Value| {
        let number = |name: &str| window.get(name)?.as_f64();
        Some((number("at_s")?, number(path)?))
    };
    windows.into_iter().flatten().filter_map(point).collect()
}

/// The table of a soak, with its verdict.
///
/// # Errors
/// It was too short for one.
pub(crate) fn render(soaked: &Results) -> Result<String> {
    let run = soaked.of(SOAK, Subject::Gateway).next();
    let run = run.context("the soak has no run")?;
    let number = |path: &str| run.number(path).unwrap_or_default();
    let rss = points(soaked, "rss");
    let growth = growth_a_minute(&rss).context("too short a soak for a verdict")?;
    let mut out = format!(
        "{}\n\n{} minutes at once: {} messages to one room ({} deliveries to those who stayed), {} durable messages to other rooms, \
         {} clients that came, caught up and left, of whom one in ten stalled. The page cache is bounded to {SOAK_CACHE_MIB} MiB. \
         {}\n\n| soak | reached | wanted | |\n| --- | ---: | ---: | --- |\n",
        soaked.conditions.render_soak(),
        figure(number("/seconds") / 60.0),
        figure(number("/messages")),
        figure(number("/deliveries")),
        figure(number("/durable_messages")),
        figure(number("/visits")),
        generator(soaked, run),
    );
    out.push_str(&format!(
        "| server RSS, growth a minute after the first third | {} % | ≤ {} % | {} |\n",
        figure(growth * 100.0),
        figure(RSS_GROWTH_A_MINUTE * 100.0),
        mark(growth <= RSS_GROWTH_A_MINUTE)
    ));
    for (what, path) in [
        ("fan-out", "fan_out_p99_us"),
        ("durable answers", "ack_p99_us"),
        ("pages of history", "page_p99_us"),
    ] {
        let (first, last) = first_and_last(&points(soaked, path)).context("too short a soak")?;
        let ratio = last / first;
        let verdict = mark(ratio <= P99_GROWTH);
        out.push_str(&format!(
            "| p99 of {what}, last third by first ({} by {}) | {}× | ≤ {}× | {verdict} |\n",
            duration(last),
            duration(first),
            figure(ratio),
            figure(P99_GROWTH),
        ));
    }
    let mib = |bytes: f64| format!("{} MiB", figure(bytes / 1024.0 / 1024.0));
    let ends = rss.first().zip(rss.last());
    if let Some(((_, first), (_, last))) = ends {
        out.push_str(&format!(
            "| server RSS in the first window, in the last | {}, {} | | |\n",
            mib(*first),
            mib(*last)
        ));
    }
    out.push_str("\n![Soak](images/bench-soak.svg)\n");
    Ok(out)
}

/// What the generator itself had to do with the numbers, and everybody else on the machine.
fn generator(soaked: &Results, run: &Run) -> String {
    let middle = |path: &str| {
        let values = points(soaked, path).into_iter().map(|point| point.1);
        median(values.collect()).unwrap_or_default()
    };
    let (late, p99) = (middle("generator_late_p99_us"), middle("fan_out_p99_us"));
    let limit = if run.generator_was_the_limit() || late > p99 * LATE {
        "**The generator was the limit**"
    } else {
        "The generator was not the limit"
    };
    let others = run.number("/shares/others").unwrap_or_default() * 100.0;
    format!(
        "{limit}: it was itself {} late (p99). Everything else on the machine took {others:.0} % of a core.",
        duration(late)
    )
}

/// The slope of the straight line through the windows after the warm-up, a minute and as a share of their mean.
fn growth_a_minute(rss: &[(f64, f64)]) -> Option<f64> {
    let warm = rss.get(rss.len() / THIRDS..)?;
    if warm.len() < 2 {
        return None;
    }
    let count = warm.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / count;
    let (at, bytes) = (mean(|point| point.0), mean(|point| point.1));
    let (mut up, mut across) = (0.0, 0.0);
    for point in warm {
        up += (point.0 - at) * (point.1 - bytes);
        across += (point.0 - at).powi(2);
    }
    Some(up / across * 60.0 / bytes)
}

/// The medians of the first and of the last third.
fn first_and_last(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let third = points.len() / THIRDS;
    let values = |part: &[(f64, f64)]| median(part.iter().map(|point| point.1).collect());
    Some((
        values(points.get(..third)?)?,
        values(points.get(points.len() - third..)?)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_comes_after_the_warm_up() {
        let steep = (0..4).map(|at| (f64::from(at) * 60.0, f64::from(at) * 25.0));
        let flat = (4..12).map(|at| (f64::from(at) * 60.0, 100.0));
        let points: Vec<_> = steep.chain(flat).collect();
        assert_eq!(growth_a_minute(&points), Some(0.0));
        let slope = |a_minute: f64| {
            (0..12).map(move |at| (f64::from(at) * 60.0, 100.0 + a_minute * f64::from(at)))
        };
        let growth = growth_a_minute(&slope(2.0).collect::<Vec<_>>()).unwrap();
        // Two a minute of the mean of minutes 4 to 11.
        assert!((growth - 2.0 / 115.0).abs() < 1e-9, "{growth}");
        assert_eq!(growth_a_minute(&[(0.0, 1.0)]), None);
    }

    #[test]
    fn thirds_are_compared_by_their_medians() {
        let points: Vec<_> = [10.0, 1000.0, 12.0, 5.0, 5.0, 5.0, 20.0, 22.0, 9000.0]
            .into_iter()
            .map(|value| (0.0, value))
            .collect();
        assert_eq!(first_and_last(&points), Some((12.0, 22.0)));
        assert_eq!(first_and_last(&points[..2]), None);
    }
}
